"""Messages from an entity to another on the same runner, one at a time. As a program it prints one JSON line."""

from __future__ import annotations

from typing import Any

from cluster_app.bench.asker import ASKED, Asker
from cluster_app.bench.counters import check_counted
from cluster_app.bench.latency import Latency, latency_of
from cluster_app.bench.pipeline import check_value
from cluster_app.bench.ray_instance import run_side
from entities.catalog import Counter

__all__ = ["measure"]

WARM_UP = 200  # messages
AT_ONCE = 1_000  # messages per question, so that each question ends long before its deadline


def measure(cluster: Any, messages: int) -> Latency:
    """Have one entity send `messages` to another."""
    # So the counter lives, and its code is known to the runner.
    check_value(0, cluster.entity(Counter, ASKED).increment.remote(1).result(), 1)
    asker = cluster.entity(Asker, "asker")
    asker.ask.remote(WARM_UP).result()
    seconds: list[float] = []
    while len(seconds) < messages:
        seconds += asker.ask.remote(min(AT_ONCE, messages - len(seconds))).result()
    check_counted(cluster, messages + WARM_UP + 1)
    return latency_of(seconds)


if __name__ == "__main__":
    run_side(measure, cluster=True)
