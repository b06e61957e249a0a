"""The commands that look at a running cluster and let an entity of it go, on Ray."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from cluster_app import Cluster, cli
from entities.catalog import Counter
from tests.ray.driver_process import environment

pytestmark = pytest.mark.ray

NAMESPACE = "tests"  # of the session's cluster


def test_the_commands_work_on_ray(ray_cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """One interval of `top`, the ids of a type, and the end of one entity, each as one JSON object."""
    name = uuid.uuid4().hex
    counter = ray_cluster.entity(Counter, name)
    assert counter.increment.remote(3).result(30) == 3

    def told(*arguments: str) -> dict[str, Any]:
        assert cli.run([*arguments, "--json", "--namespace", NAMESPACE]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    looked = told("top", "--once", "--interval", "0.1")
    status = ray_cluster.status().as_dict()
    assert list(looked) == ["seconds", "messages_per_s", "types", *status]
    assert [runner["id"] for runner in looked["runners"]] == [runner["id"] for runner in status["runners"]]
    assert name in told("entities", "Counter")["ids"]
    assert told("deactivate", "Counter", name)["deactivated"] is True
    assert told("deactivate", "Counter", name)["deactivated"] is False
    assert name not in told("entities", "Counter")["ids"]
    assert counter.read.remote().result(30) == 0


@pytest.mark.slow
def test_top_on_a_terminal_ends_with_ctrl_c_and_leaves_it_clean(ray_cluster: Cluster) -> None:
    """A process of its own on a terminal of its own: drawn, interrupted, its screen and cursor given back."""
    ray_cluster.entity(Counter, uuid.uuid4().hex).increment.remote().result(30)
    main, terminal = pty.openpty()
    program = "from cluster_app.cli import main; main()"
    command = [sys.executable, "-c", program, "top", "--interval", "0.1", "--namespace", NAMESPACE]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(), start_new_session=True
    )
    os.close(terminal)
    drawn, interrupted, end = b"", False, time.monotonic() + 50
    try:
        while time.monotonic() < end:
            try:
                drawn += os.read(main, 65536)
            except OSError:
                break  # the process has ended, and with it the other side
            if not interrupted and b"entity type" in drawn:
                process.send_signal(2)
                interrupted = True
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()
        os.close(main)
    for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
        assert drawn.count(on) == drawn.count(off) == 1
        assert drawn.rindex(b"entity type") < drawn.index(off)
    assert b"Traceback" not in drawn
