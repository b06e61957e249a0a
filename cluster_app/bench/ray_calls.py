"""One side: raw Ray calls to one synchronous actor, pipelined. As a program it prints one JSON line.

It decides what the peer does for its speed: the plain way that Ray's own benchmark goes, and nothing to slow
it.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from cluster_app.bench.pipeline import Pace, pipelined
from cluster_app.bench.ray_instance import fresh_ray
from cluster_app.bench.sums import Sum, sum_after

__all__ = ["main", "measure"]

WARM_UP = 500  # calls


def measure(messages: int, in_flight: int) -> Pace:
    """Call one actor `messages` times. Needs a Ray to be there."""
    import ray

    actor: Any = ray.remote(Sum).remote()
    increment = actor.increment
    for before, count in ((0, WARM_UP), (WARM_UP, messages)):
        pace = pipelined(
            lambda _: increment.remote(1),
            ray.get,
            partial(sum_after, before),
            messages=count,
            in_flight=in_flight,
        )
    return pace


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray without any process of ours."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        pace = measure(asked["messages"], asked["in_flight"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
