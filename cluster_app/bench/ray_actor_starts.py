"""The start of a raw Ray actor, as the start of a hosted entity is compared with it.

It decides what a start is: from asking for the actor to its first value; and what it costs: all the CPU time that the
actor's process has taken by then. Its class is of nothing but Python, so the process loads Ray alone.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from cluster_app.bench.departure import await_end, cpu_s_of
from cluster_app.bench.pipeline import check_value

__all__ = ["start_actor"]


class SumWithPid:
    """As `sums.Sum`, which is no base of it: with that the process would load our packages. Tells its pid as well."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value

    def pid(self) -> int:
        """The process it is in."""
        return os.getpid()


@cache
def _kind() -> Any:
    import ray

    return ray.remote(SumWithPid)


def start_actor(number: int, gone_s: float) -> tuple[float, float]:
    """Start one, and have it go: seconds to its first value, and of CPU by then. Needs a Ray.

    :param gone_s: the longest that it may take to leave.
    """
    import ray

    kind = _kind()
    started_s = time.perf_counter()
    actor = kind.remote()
    value = ray.get(actor.increment.remote(1))
    elapsed_s = time.perf_counter() - started_s
    check_value(number, value, 1)
    pid: Any = ray.get(actor.pid.remote())
    taken_s = cpu_s_of(pid)
    del actor  # with its last handle it goes
    await_end(pid, gone_s)
    return elapsed_s, taken_s
