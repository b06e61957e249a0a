"""What a process has taken until now, and waiting until it has ended, before the next one's start is measured."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from cluster_app.bench.pipeline import WrongValue

__all__ = ["await_end", "cpu_s_of", "still_there"]


def still_there(pids: Iterable[int]) -> list[int]:
    """Those that run; a zombie has ended."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def cpu_s_of(pid: int) -> float:
    """CPU seconds that a process has taken since it began, user and system time of all its threads."""
    taken = psutil.Process(pid).cpu_times()
    return float(taken.user + taken.system)


def await_end(pid: int, within_s: float) -> None:
    """Wait until the process has ended. Raises WrongValue when it has not in time."""
    deadline = time.monotonic() + within_s
    while still_there([pid]):
        if time.monotonic() > deadline:
            raise WrongValue(f"process {pid} is still there after {within_s:g} s")
        time.sleep(0.02)
