"""First messages to entities that do not live yet. As a program it prints one JSON line.

It decides what belongs to a first message: making the reference as well, since every new id needs one.
"""

from __future__ import annotations

from typing import Any

from cluster_app.bench.counters import Counters, check_counted, counter_ids, values_of
from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_instance import run_side
from entities.catalog import Counter

__all__ = ["measure", "one_message_each"]

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
    check_counted(cluster, entities + WARM_UP)
    return pace


if __name__ == "__main__":
    run_side(measure, cluster=True)
