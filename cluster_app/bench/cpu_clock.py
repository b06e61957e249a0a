"""CPU seconds of this process and some others together.

It decides whose time counts: user and system time of whole processes, all their threads. On a machine that others
use as well, it says more about what a message costs than the wall clock does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["cpu_clock"]


def cpu_clock(*pids: int) -> Callable[[], float]:
    """A clock in CPU seconds over this process and those of the `pids`, which are read in steps of 10 ms.

    :raises psutil.NoSuchProcess: by the clock as well, when one of them has ended.
    """
    if not pids:
        return time.process_time
    import psutil

    others = [psutil.Process(pid) for pid in pids]

    def read() -> float:
        seconds = time.process_time()
        for other in others:
            times = other.cpu_times()
            seconds += times.user + times.system
        return seconds

    return read
