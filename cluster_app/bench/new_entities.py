"""First messages to entities that do not live yet. As a program it prints one JSON line.

It decides what belongs to a first message: making the reference as well, since every new id needs one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cluster_app.bench.counters import Counters, counter_ids, values_of
from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_instance import fresh_cluster, fresh_ray
from entities.catalog import Counter

__all__ = ["main", "measure", "one_message_each"]

WARM_UP = 1_000  # entities


def one_message_each(cluster: Any, entities: int, in_flight: int, expected: int) -> Pace:
    """Send one message to each of the counters 0 to `entities`, and check that each returns `expected`."""

    def send(number: int) -> Any:
        return cluster.entity(Counter, f"counter-{number}").increment.remote(1)

    return pipelined(send, values_of, lambda _: expected, messages=entities, in_flight=in_flight)


def measure(cluster: Any, entities: int, in_flight: int) -> Pace:
    """Activate so many entities by their first message. Others live already: the type is known by then."""
    Counters(cluster, (f"warm-{entity_id}" for entity_id in counter_ids(range(WARM_UP)))).pace(
        WARM_UP, in_flight
    )
    pace = one_message_each(cluster, entities, in_flight, expected=1)
    activated = cluster.metrics().value("cluster_entity_activations_total", entity_type="Counter")
    if activated != entities + WARM_UP:
        raise WrongValue(f"{activated:.0f} activations of {entities + WARM_UP} entities")
    return pace


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    with fresh_ray(), fresh_cluster() as cluster:
        pace = measure(cluster, asked["entities"], asked["in_flight"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
