"""Messages to one entity, one at a time, metrics on. As a program it prints one JSON line."""

from __future__ import annotations

import json
import sys
from typing import Any

from cluster_app.bench.counters import check_counted
from cluster_app.bench.latency import Latency, one_at_a_time
from cluster_app.bench.ray_instance import fresh_cluster, fresh_ray
from entities.catalog import Counter

__all__ = ["main", "measure"]

WARM_UP = 200  # messages


def measure(cluster: Any, messages: int) -> Latency:
    """Send `messages` to one counter, each once the last is answered."""
    remote = cluster.entity(Counter, "one").increment.remote

    def call(by: int) -> Any:
        return remote(by).result()

    one_at_a_time(call, WARM_UP, before=0)
    latency = one_at_a_time(call, messages, before=WARM_UP)
    check_counted(cluster, messages + WARM_UP)
    return latency


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    with fresh_ray(), fresh_cluster() as cluster:
        latency = measure(cluster, asked["messages"])
    print(json.dumps(latency._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
