"""One side: raw Ray actors that come and go. As a program it prints one JSON line.

It decides what a start is: from asking for the actor to its first value; and what it costs: all the CPU time that the
actor's process has taken by then. Its class is of nothing but Python, so the process loads Ray alone.
"""

from __future__ import annotations

import os
import time
from typing import Any

from cluster_app.bench.departure import await_end, cpu_s_of
from cluster_app.bench.pipeline import check_value
from cluster_app.bench.ray_instance import run_side

__all__ = ["measure"]

WARM_UP = 1  # actors
GONE_S = 30.0


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


def measure(entities: int) -> dict[str, Any]:
    """Start so many actors, as the other side does entities, each once the one before has gone. Needs a Ray."""
    import ray

    kind: Any = ray.remote(SumWithPid)
    starts_s: list[float] = []
    cpu_s: list[float] = []
    for number in range(WARM_UP + entities):
        started_s = time.perf_counter()
        actor = kind.remote()
        value = ray.get(actor.increment.remote(1))
        elapsed_s = time.perf_counter() - started_s
        check_value(number, value, 1)
        pid: Any = ray.get(actor.pid.remote())
        taken_s = cpu_s_of(pid)
        del actor  # with its last handle it goes
        await_end(pid, GONE_S)
        if number >= WARM_UP:
            starts_s.append(elapsed_s)
            cpu_s.append(taken_s)
    return {"starts_ms": [s * 1e3 for s in starts_s], "cpu_ms": [s * 1e3 for s in cpu_s]}


if __name__ == "__main__":
    run_side(measure)
