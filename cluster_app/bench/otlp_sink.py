"""A collector that takes everything, and on demand is slow, refuses or is not there. As a program it prints its port.

It decides nothing about what it gets: that is thrown away. It reads from its standard input how to be, a word a line,
and runs until that ends, in a process of its own so that the sender's time is the sender's.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO

__all__ = ["BEHAVIOURS", "SLOW_S", "Sink", "sink"]

BEHAVIOURS = ("healthy", "absent", "slow", "refusing")
SLOW_S = 5.0


class Sink:
    """The other side's way to tell it how to be."""

    def __init__(self, port: int, told: IO[str]) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._told = told

    def be(self, behaviour: str) -> None:
        """Be like that from now on."""
        self._told.write(f"{behaviour}\n")
        self._told.flush()


@contextmanager
def sink() -> Iterator[Sink]:
    """One in a process of its own, healthy at first."""
    command = [sys.executable, "-m", "cluster_app.bench.otlp_sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Sink(int(process.stdout.readline()), process.stdin)
        process.stdin.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour = "healthy"
    ended = threading.Event()

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if _Handler.behaviour == "slow":
            self.ended.wait(SLOW_S)
        self.send_response(400 if _Handler.behaviour == "refusing" else 200)
        self.send_header("Content-Length", "0")
        if _Handler.behaviour == "absent":
            self.close_connection = True
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _main() -> None:
    server: _Server | None = _Server(("127.0.0.1", 0), _Handler)
    port = server.server_address[1] if server is not None else 0
    print(port, flush=True)
    _serve(server)
    for line in sys.stdin:
        _Handler.behaviour = line.strip()
        if _Handler.behaviour == "absent" and server is not None:
            server.shutdown()
            server.server_close()
            server = None
        elif _Handler.behaviour != "absent" and server is None:
            server = _Server(("127.0.0.1", int(port)), _Handler)
            _serve(server)
    _Handler.ended.set()


def _serve(server: _Server | None) -> None:
    if server is not None:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()


if __name__ == "__main__":
    _main()
