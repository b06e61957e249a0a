"""CPU per message with metrics on and with metrics off. As a program it prints one JSON line.

It decides how the two are paired: two clusters on one Ray, one of which counts; a pair has some turns of each, of which
now the one and now the other comes first, so that whatever else the machine does meets both. What counts is the CPU
time of the sender and of the runner that works; the idle runner's is left out, and the sender's idle connection weighs
on both alike.
"""

from __future__ import annotations

import gc
from typing import Any

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_instance import fresh_cluster, run_side

__all__ = ["measure", "measure_both"]

TURNS = 8  # of each, in a pair


def measure(on: Any, off: Any, pairs: int, messages: int, in_flight: int, entities: int) -> dict[str, Any]:
    """CPU microseconds per message: ``on_us`` and ``off_us``, a figure per pair.

    :param messages: to each cluster in each pair.
    """
    counters, clocks = {}, {}
    for name, cluster in (("on_us", on), ("off_us", off)):
        counters[name] = Counters(cluster, counter_ids(range(entities)))
        counters[name].pace(entities, in_flight)
        clocks[name] = cpu_clock(cluster.status().runners[0].pid)
    measured: dict[str, list[float]] = {"on_us": [], "off_us": []}
    for _ in range(pairs):
        gc.collect()
        cpu_s = {"on_us": 0.0, "off_us": 0.0}
        for turn in range(TURNS):
            share = messages * (turn + 1) // TURNS - messages * turn // TURNS
            for name in ("on_us", "off_us") if turn % 2 == 0 else ("off_us", "on_us"):
                cpu_s[name] += counters[name].pace(share, in_flight, clocks[name]).cpu_s
        for name, seconds in cpu_s.items():
            measured[name].append(seconds / messages * 1e6)
    check_counted(on, pairs * messages + entities)
    counted = off.metrics().value("cluster_messages_sent_total")
    if counted:
        raise WrongValue(f"{counted:.0f} messages counted with metrics off")
    return measured


def measure_both(**asked: int) -> dict[str, Any]:
    """Measure with two fresh clusters on the Ray that is there."""
    with (
        fresh_cluster(metrics=True, namespace="metrics-on") as on,
        fresh_cluster(metrics=False, namespace="metrics-off") as off,
    ):
        return measure(on, off, **asked)


if __name__ == "__main__":
    run_side(measure_both)
