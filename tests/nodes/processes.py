"""Processes by their ids: stop, wake and kill them, and see them end.

Every process that has descended from this one is found again, also when its parent has been killed: the system gives
such orphans to this process, once it has asked for them (`adopt_orphans`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future

import psutil

from cluster_app.ray_calls import boottime

__all__ = ["adopt_orphans", "descendants", "end_all", "ending", "kill", "stay_until", "stop", "wake"]

_PR_SET_CHILD_SUBREAPER = 36
_STOPS_WITHIN_S = 10.0


def adopt_orphans() -> None:
    """Have whoever descends from this process and loses its parent become a child of this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants() -> list[psutil.Process]:
    """Everybody who descends from this process now; each knows its process from a later one of the same id."""
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def ending(pid: int) -> Future[float]:
    """When the process ends, in seconds of CLOCK_BOOTTIME, as soon as it has. Raises ProcessLookupError if it has."""
    descriptor = os.pidfd_open(pid)
    ended: Future[float] = Future()

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        ended.set_result(boottime())
        os.close(descriptor)

    threading.Thread(target=watch, name=f"ending-{pid}", daemon=True).start()
    return ended


def kill(pid: int) -> float:
    """End it with SIGKILL; returns when that was sent, in seconds of CLOCK_BOOTTIME."""
    at = boottime()
    os.kill(pid, signal.SIGKILL)
    return at


def stop(pid: int) -> float:
    """Have it stand still; returns since when it surely does, in seconds of CLOCK_BOOTTIME.

    Each of its threads finishes what it is doing in the kernel first.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _STOPS_WITHIN_S
    while not _stands_still(pid):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)
    return boottime()


def _stands_still(pid: int) -> bool:
    """Whether all its threads do."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/{pid}/task/{thread}/stat") as told,
        ):
            if told.read().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def wake(pid: int) -> float:
    """Have it go on; returns when that was sent, in seconds of CLOCK_BOOTTIME. One that has ended stays ended."""
    at = boottime()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    return at


def stay_until(at: float) -> None:
    """Let time pass until then, by CLOCK_BOOTTIME: a fault lasts so long."""
    time.sleep(max(0.0, at - boottime()))


def end_all(processes: Iterable[psutil.Process], within_s: float = 20.0) -> None:
    """Kill these, those that stand still too, and wait until they have gone."""
    waited_for = list(processes)
    for process in waited_for:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, left = psutil.wait_procs(waited_for, timeout=within_s)
    assert not left, f"these do not end: {left}"
