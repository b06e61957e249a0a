"""The other side: messages to many entities, pipelined, metrics on. As a program it prints one JSON line.

It decides how the messages go round the entities, and holds the cluster's own count against what was sent: a
speed with metrics is one at which every message was counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cluster_app
from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_instance import fresh_ray
from entities.catalog import Counter

__all__ = ["main", "measure"]


def measure(cluster: Any, messages: int, in_flight: int, entities: int) -> Pace:
    """Send `messages` to `entities` counters in turn, from this one sender."""
    sends: list[Callable[[int], Any]] = [
        cluster.entity(Counter, f"counter-{number}").increment.remote for number in range(entities)
    ]

    def values(replies: list[Any]) -> Sequence[Any]:
        return [reply.result() for reply in replies]

    def send(number: int) -> Any:
        return sends[number % entities](1)

    # The warm-up is one message each: whoever is measured is alive by then.
    pipelined(send, values, lambda n: n // entities + 1, messages=entities, in_flight=in_flight)
    pace = pipelined(send, values, lambda n: n // entities + 2, messages=messages, in_flight=in_flight)
    counted = cluster.metrics()
    for name in ("cluster_messages_sent_total", "cluster_messages_received_total"):
        value = counted.value(name, entity_type="Counter")
        if value != messages + entities:
            raise WrongValue(f"{name} is {value:.0f} after {messages + entities} messages")
    return pace


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    # The defaults are what is measured: one runner per node, metrics on.
    with fresh_ray(), cluster_app.connect() as cluster:
        pace = measure(cluster, asked["messages"], asked["in_flight"], asked["entities"])
        cluster.shutdown()
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
