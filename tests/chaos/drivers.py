"""The drivers of a run: processes that send, are killed and started again.

Decides when one is started again: at once when it was killed, and when it has ended by itself. Some calls of one of
them are lost on the way, so that its lanes have to ask again; each costs it a second or so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["Drivers"]

# Ray's own way to lose calls of actors, in percent: before they leave, while they are under way (the call arrives, and
# its caller hears that it failed), and after they were answered.
_LOST_CALLS = {
    "CoreWorkerService.grpc_client.PushTask": {
        "num_failures": 40,
        "req_failure_prob": 1,
        "in_flight_failure_prob": 1,
        "resp_failure_prob": 1,
    }
}
_ROOT = Path(__file__).parents[2]


class Drivers:
    """The processes that send, by name.

    :ivar failed: what those said that ended by themselves.
    """

    def __init__(self, names: tuple[str, ...], address: str, seed: int, folder: Path) -> None:
        self.failed: list[str] = []
        self._address = address
        self._cut_off = names[-1]
        self._folder = folder
        self._seeds = iter(range(seed * 1000, seed * 1000 + 1000))
        self._lock = threading.Lock()
        self._processes = {name: self._start(name) for name in names}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        seed = next(self._seeds)
        with Path(self._folder, f"{name}.{seed}.output").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.driver", self._address, name, str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=output,
                cwd=_ROOT,
                env=self._environment(name),
            )

    def _environment(self, name: str) -> dict[str, str]:
        if name != self._cut_off:
            return dict(os.environ)
        return {**os.environ, "RAY_testing_rpc_failure": json.dumps(_LOST_CALLS)}

    def pid(self, name: str) -> int:
        """The process of that name; started again if it has ended by itself."""
        with self._lock:
            process = self._processes[name]
            if process.poll() is not None:
                self._say(name, process)
                process = self._processes[name] = self._start(name)
            return process.pid

    def again(self, name: str) -> None:
        """It was killed: start it again."""
        with self._lock:
            self._close(self._processes[name])
            self._processes[name] = self._start(name)

    def end(self, within_s: float) -> None:
        """Have all of them wait for their replies and end; who does not in time is killed."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for name, process in self._processes.items():
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.failed.append(f"{name}: its messages had no fate after {within_s:g} s")
                continue
            if process.returncode:
                self._say(name, process)

    def kill(self) -> None:
        """End all of them at once."""
        for process in self._processes.values():
            process.kill()
            self._close(process)

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _say(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._close(process)
        outputs = sorted(self._folder.glob(f"{name}.*.output"), key=lambda path: path.stat().st_mtime)
        said = outputs[-1].read_text(errors="replace")[-2000:] if outputs else ""
        self.failed.append(f"{name} ended with {process.returncode}: {said}")
