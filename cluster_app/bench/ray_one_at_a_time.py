"""One side: raw Ray calls to one asynchronous actor, one at a time. As a program it prints one JSON line."""

from __future__ import annotations

from typing import Any

from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.latency import LatencyAndCost, one_at_a_time
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.sums import AsyncSum

__all__ = ["measure"]

WARM_UP = 200  # calls


def measure(messages: int) -> LatencyAndCost:
    """Call one actor `messages` times, each once the last is answered. Needs a Ray to be there.

    CPU is that of this process and the actor's.
    """
    import ray

    actor: Any = ray.remote(AsyncSum).remote()
    remote = actor.increment.remote

    def call(by: int) -> Any:
        return ray.get(remote(by))

    one_at_a_time(call, WARM_UP, before=0)
    clock = cpu_clock(ray.get(actor.pid.remote()))
    return one_at_a_time(call, messages, before=WARM_UP, cpu_clock=clock)


if __name__ == "__main__":
    run_side(measure)
