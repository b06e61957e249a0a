"""A cluster of one node as an operator starts it: `ray start --head`, token authentication, ports of its own.

Nothing of it is shared with another Ray on this machine: its folder, its ports and its process group are its own, and
ending it ends that group only.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.source import ROOT

__all__ = ["RAY", "StartedRay", "started"]

RAY = str(Path(sys.executable).parent / "ray")
# With "localhost" Ray would take the machine's own address.
HOST = "127.0.0.2"
# Below those that the system gives to connections, above those that Ray Client gives to its processes.
CANDIDATES = range(25_000, 32_000)
PORTS = (
    "port",
    "node-manager-port",
    "object-manager-port",
    "ray-client-server-port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


class StartedRay(NamedTuple):
    """Where it is, and what a process needs to come in.

    :ivar address: for a driver on this node.
    :ivar client: for Ray Client.
    :ivar dashboard: for `ray job`.
    :ivar environment: of a process that has the token.
    """

    address: str
    client: str
    dashboard: str
    environment: dict[str, str]

    def run(
        self, *command: str, cwd: Path = ROOT, without: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that comes in, leaving out some variables."""
        environment = {name: value for name, value in self.environment.items() if name not in without}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def _free_ports(number: int) -> list[int]:
    """Ports that nobody has on any address, as Ray binds to all; and that no connection is given before it does."""
    with contextlib.ExitStack() as open_ones:
        found: list[int] = []
        for port in random.sample(CANDIDATES, len(CANDIDATES)):
            each = open_ones.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("", port))
                found.append(port)
            if len(found) == number:
                break
        return found


@contextlib.contextmanager
def started(folder: Path, its_own: Mapping[str, str] | None = None) -> Iterator[StartedRay]:
    """Start it, with its token and its files in that folder, and end it.

    :param its_own: variables of its processes that those who come in do not have.
    """
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    temporary = folder / "ray"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": os.pathsep.join([str(Path(RAY).parent), environment["PATH"]]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(temporary),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    options = {
        **ports,
        "node-ip-address": HOST,
        "num-cpus": 4,
        "min-worker-port": 0,  # whichever are free
        "max-worker-port": 0,
        "temp-dir": temporary,
    }
    command = [RAY, "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())]
    log = folder / "ray.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment | dict(its_own or {}),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "block forever" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield StartedRay(
            f"{HOST}:{ports['port']}",
            f"ray://{HOST}:{ports['ray-client-server-port']}",
            f"http://127.0.0.1:{ports['dashboard-port']}",
            # By "auto" alone a driver would take the newest Ray of this machine, whoever has started it.
            environment | {"RAY_ADDRESS": f"{HOST}:{ports['port']}"},
        )
    finally:
        # Asked by SIGTERM it takes half a minute; its workers end with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
