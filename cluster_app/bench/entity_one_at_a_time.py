"""Messages to one entity, one at a time, metrics on. As a program it prints one JSON line."""

from __future__ import annotations

from typing import Any

from cluster_app.bench.counters import check_counted
from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.latency import LatencyAndCost, one_at_a_time
from cluster_app.bench.ray_instance import run_side
from entities.catalog import Counter

__all__ = ["measure"]

WARM_UP = 200  # messages


def measure(cluster: Any, messages: int) -> LatencyAndCost:
    """Send `messages` to one counter, each once the last is answered; CPU of this process and the runner's."""
    remote = cluster.entity(Counter, "one").increment.remote

    def call(by: int) -> Any:
        return remote(by).result()

    one_at_a_time(call, WARM_UP, before=0)
    clock = cpu_clock(cluster.status().runners[0].pid)
    latency = one_at_a_time(call, messages, before=WARM_UP, cpu_clock=clock)
    check_counted(cluster, messages + WARM_UP)
    return latency


if __name__ == "__main__":
    run_side(measure, cluster=True)
