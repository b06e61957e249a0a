"""Messages to many entities, pipelined, metrics on. As a program it prints one JSON line.

It decides the warm-up: one message each, so whoever is measured is alive by then.
"""

from __future__ import annotations

from typing import Any

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.pipeline import Pace
from cluster_app.bench.ray_instance import run_side

__all__ = ["measure"]


def measure(cluster: Any, messages: int, in_flight: int, entities: int) -> Pace:
    """Send `messages` to `entities` counters in turn, from this one sender."""
    counters = Counters(cluster, counter_ids(range(entities)))
    counters.pace(entities, in_flight)
    pace = counters.pace(messages, in_flight)
    check_counted(cluster, messages + entities)
    return pace


if __name__ == "__main__":
    run_side(measure, cluster=True)
