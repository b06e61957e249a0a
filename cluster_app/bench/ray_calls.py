"""One side: raw Ray calls to one synchronous actor, pipelined. As a program it prints one JSON line.

It decides what the peer does for its speed: the plain way that Ray's own benchmark goes, and nothing to slow
it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cluster_app.bench.pipeline import Pace, pipelined
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.sums import Sum, sum_after

__all__ = ["measure"]

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


if __name__ == "__main__":
    run_side(measure)
