"""A driver in a process of its own, told what to do line by line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import ray

__all__ = ["DriverProcess", "environment"]


def environment() -> dict[str, str]:
    """The environment of a process that joins this session's Ray."""
    return {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


class DriverProcess:
    """Runs `tests.ray.told_driver` against a namespace of this session's Ray; leaving ends it in good order."""

    def __init__(self, namespace: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.told_driver", namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def tell(self, do: str, **arguments: Any) -> None:
        """Have it do something; `heard` returns what it says about it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def heard(self) -> Any:
        """Wait for the next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the driver ended with {self._process.wait()}"
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have it do something and wait for what it says about it."""
        self.tell(do, **arguments)
        return self.heard()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop it as SIGSTOP does, and have it go on afterwards."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # until then it may still report
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """End it with SIGTERM; its exit status."""
        self._process.terminate()
        return self._process.wait(30)

    def end(self) -> None:
        """Let it close its connection and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        returncode = self._process.wait()
        self._process.stdout.close()
        assert returncode == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._process.poll() is None:
            self.kill()
        if self._process.poll() is None:
            self.end()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
