"""Messages to many entities, pipelined, metrics on. As a program it prints one JSON line.

It decides the warm-up: one message each, so whoever is measured is alive by then.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.pipeline import Pace
from cluster_app.bench.ray_instance import fresh_cluster, fresh_ray

__all__ = ["main", "measure"]


def measure(cluster: Any, messages: int, in_flight: int, entities: int) -> Pace:
    """Send `messages` to `entities` counters in turn, from this one sender."""
    counters = Counters(cluster, counter_ids(range(entities)))
    counters.pace(entities, in_flight)
    pace = counters.pace(messages, in_flight)
    check_counted(cluster, messages + entities)
    return pace


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    with fresh_ray(), fresh_cluster() as cluster:
        pace = measure(cluster, asked["messages"], asked["in_flight"], asked["entities"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
