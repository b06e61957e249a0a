"""Waiting until processes have ended, before the next is started and its start measured."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

__all__ = ["await_end", "still_there"]


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


def await_end(pid: int, within_s: float) -> bool:
    """Whether the process ended in time."""
    deadline = time.monotonic() + within_s
    while still_there([pid]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
