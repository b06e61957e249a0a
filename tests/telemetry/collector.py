"""A real collector: rotel, which takes OTLP by gRPC and HTTP and hands it on to a receiver of the test's."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from pathlib import Path

from tests.telemetry.receiver import Receiver

__all__ = ["Collector", "free_port"]

_START_S = 20.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Collector:
    """One rotel. It can be stopped and started again on the same ports.

    :ivar receiver: what has come out of it.
    """

    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver()
        self._folder = folder
        self._grpc, self._http = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def environment(self, protocol: str) -> dict[str, str]:
        """The standard variables that lead here, by ``grpc`` or ``http/protobuf``."""
        port = self._grpc if protocol == "grpc" else self._http
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        }

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with open(self._folder / "rotel.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    str(_binary()),
                    "start",
                    f"--otlp-grpc-endpoint=127.0.0.1:{self._grpc}",
                    f"--otlp-http-endpoint=127.0.0.1:{self._http}",
                    "--exporter=otlp",
                    f"--otlp-exporter-endpoint={self.receiver.endpoint}",
                    "--otlp-exporter-protocol=http",
                    "--disable-batching",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_S
        for port in (self._grpc, self._http):
            while not _listens(port):
                assert self._process.poll() is None, (self._folder / "rotel.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "the collector does not listen"
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; what it had taken has been handed on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        """Stop it, and what stands behind it."""
        self.stop()
        self.receiver.close()


def _binary() -> Path:
    found = importlib.util.find_spec("rotel")
    assert found is not None and found.origin is not None, "rotel is part of the dev extra"
    return Path(found.origin).with_name("rotel-agent")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
