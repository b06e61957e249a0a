"""Many live entities on one runner: what each weighs, and what a message costs among them. Prints one JSON line.

It decides when memory is read, once before the many come to life and once after each has answered again, and that
messages among the many go to a sample spread evenly over them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psutil

from cluster_app.bench.counters import Counters, counter_ids
from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.new_entities import one_message_each
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_instance import fresh_cluster, fresh_ray

__all__ = ["main", "measure"]

FEW = 1_000  # entities that live before the many, and on


def measure(cluster: Any, entities: int, messages: int, in_flight: int, sample: int) -> dict[str, Any]:
    """Memory and cost, with `FEW` entities alive and with `entities` more."""
    few = Counters(cluster, (f"few-{entity_id}" for entity_id in counter_ids(range(FEW))))
    few.pace(FEW, in_flight)
    runner = cluster.status().runners[0].pid
    clock = cpu_clock(runner)
    process = psutil.Process(runner)
    among_few = few.pace(messages, in_flight, clock)

    before = process.memory_info().rss
    one_message_each(cluster, entities, in_flight, expected=1)
    when_idle = process.memory_info().rss
    alive = cluster.status().entities.get("Counter")
    if alive != entities + FEW:
        raise WrongValue(f"{alive} entities live of {entities + FEW}")
    one_message_each(cluster, entities, in_flight, expected=2)
    after_answers = process.memory_info().rss

    spread = range(0, entities, max(1, entities // sample))
    among_many = Counters(cluster, counter_ids(spread), before=2)
    among_many.pace(len(among_many), in_flight)  # warm, as the few are
    cost = among_many.pace(messages, in_flight, clock)
    return {
        "entities": entities,
        "rss_before_bytes": before,
        "rss_idle_bytes": when_idle,
        "rss_after_answers_bytes": after_answers,
        "bytes_each": (max(when_idle, after_answers) - before) / entities,
        "sample": len(among_many),
        "among_few": among_few._asdict(),
        "among_many": cost._asdict(),
        "among_few_us": among_few.cpu_us,
        "among_many_us": cost.cpu_us,
    }


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    with fresh_ray(), fresh_cluster() as cluster:
        measured = measure(cluster, asked["entities"], asked["messages"], asked["in_flight"], asked["sample"])
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
