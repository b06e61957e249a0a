"""One side: raw Ray actors that come and go. As a program it prints one JSON line.

It decides what a start is: from asking for the actor to its first value.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from cluster_app.bench.departure import await_end
from cluster_app.bench.pipeline import check_value
from cluster_app.bench.ray_instance import fresh_ray
from cluster_app.bench.sums import Sum

__all__ = ["main", "measure"]

WARM_UP = 1  # actors
GONE_S = 30.0


class SumWithPid(Sum):
    """Tells its process as well."""

    def pid(self) -> int:
        """The process it is in."""
        return os.getpid()


def measure(actors: int) -> dict[str, Any]:
    """Start so many, each once the one before has gone. Needs a Ray to be there."""
    import ray

    kind: Any = ray.remote(SumWithPid)
    starts_s: list[float] = []
    for number in range(WARM_UP + actors):
        started_s = time.perf_counter()
        actor = kind.remote()
        value = ray.get(actor.increment.remote(1))
        elapsed_s = time.perf_counter() - started_s
        check_value(number, value, 1)
        pid: Any = ray.get(actor.pid.remote())
        del actor  # with its last handle it goes
        await_end(pid, GONE_S)
        if number >= WARM_UP:
            starts_s.append(elapsed_s)
    return {"starts_ms": [start_s * 1e3 for start_s in starts_s]}


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray without any process of ours."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        measured = measure(asked["entities"])
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
