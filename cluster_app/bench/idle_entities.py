"""Many live entities on one runner: what each weighs, and what a message costs among them. Prints one JSON line.

It decides when memory is read, once before the many come to life and once after each has answered again, and that
messages among the many go to a sample spread evenly over them. Few live on the runner of another cluster beside it, and
messages go to the few and to the many in turns, so that whatever else the machine does meets both. What counts is the
CPU time of the sender and of the runner that works.
"""

from __future__ import annotations

from typing import Any

import psutil

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.new_entities import one_message_each
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_instance import fresh_cluster, run_side

__all__ = ["measure", "measure_both"]

FEW = 1_000  # entities that live on the one runner, and on the other before the many
PAIRS = 3  # of a figure among few and one among many


def measure(few: Any, many: Any, entities: int, messages: int, in_flight: int, sample: int) -> dict[str, Any]:
    """Memory of `entities` on the runner of `many`, and the cost of messages there and among `FEW`."""
    warm = Counters(many, (f"few-{entity_id}" for entity_id in counter_ids(range(FEW))))
    warm.pace(FEW + messages, in_flight)
    runner = many.status().runners[0].pid
    process = psutil.Process(runner)

    before = process.memory_info().rss
    one_message_each(many, entities, in_flight, expected=1)
    when_idle = process.memory_info().rss
    alive = many.status().entities.get("Counter")
    if alive != entities + FEW:
        raise WrongValue(f"{alive} entities live of {entities + FEW}")
    one_message_each(many, entities, in_flight, expected=2)
    after_answers = process.memory_info().rss

    spread = range(0, entities, max(1, entities // sample))
    counters = {
        "among_few": Counters(few, counter_ids(range(FEW))),
        "among_many": Counters(many, counter_ids(spread), before=2),
    }
    clocks = {"among_few": cpu_clock(few.status().runners[0].pid), "among_many": cpu_clock(runner)}
    for those in counters.values():
        those.pace(len(those), in_flight)  # alive, and known to the sender
    costs: dict[str, list[dict[str, Any]]] = {"among_few": [], "among_many": []}
    for pair in range(PAIRS):
        for name in costs if pair % 2 == 0 else reversed(costs):
            costs[name].append(counters[name].pace(messages, in_flight, clocks[name])._asdict())
    check_counted(few, FEW + PAIRS * messages)
    check_counted(many, FEW + messages + 2 * entities + len(spread) + PAIRS * messages)
    return {
        "entities": entities,
        "rss_before_bytes": before,
        "rss_idle_bytes": when_idle,
        "rss_after_answers_bytes": after_answers,
        "bytes_each": (max(when_idle, after_answers) - before) / entities,
        "sample": len(spread),
        **costs,
    }


def measure_both(**asked: int) -> dict[str, Any]:
    """Measure with two fresh clusters on the Ray that is there."""
    with fresh_cluster(namespace="few") as few, fresh_cluster(namespace="many") as many:
        return measure(few, many, **asked)


if __name__ == "__main__":
    run_side(measure_both)
