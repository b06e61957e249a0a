"""One message at a time against one call at a time to a raw asynchronous Ray actor."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.latencies import latencies, latency_side

__all__ = ["ONE_AT_A_TIME", "measure"]

RAW_REFERENCE_US = 1_400  # the slowest p50 once measured of an asynchronous actor, with two cores


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds of both sides."""
    rounds = stage.play(
        [
            latency_side("entities", "entity_one_at_a_time", messages=asked["messages"]),
            latency_side("raw Ray", "ray_one_at_a_time", messages=asked["messages"]),
        ],
        asked["rounds"],
    )
    columns = latencies(rounds)
    columns |= {
        f"{name} CPU": Column("µs of CPU per message", [float(line["cpu_us"]) for line in lines])
        for name, lines in rounds.items()
    }
    ours, peer = "entities p50", "raw Ray p50"
    raw_us = columns[peer].median
    latency = Figure(
        "p50 of one message at a time, against raw Ray",
        columns[ours].median / raw_us,
        "times",
        AtMost(1.3, 1.0),
        ours,
        peer,
        fair=raw_us <= RAW_REFERENCE_US,
    )
    our_cpu, peer_cpu = "entities CPU", "raw Ray CPU"
    cost = Figure(
        "CPU of both processes per message one at a time, against raw Ray",
        columns[our_cpu].median / columns[peer_cpu].median,
        "times",
        None,
        our_cpu,
        peer_cpu,
    )
    return Report("one-at-a-time", asked, columns, [latency, cost], rounds)


ONE_AT_A_TIME = Benchmark(
    "one-at-a-time",
    "Latency of one message at a time, against one call to an asynchronous Ray actor.",
    (
        Size("rounds", 5, 1, "Rounds of each side."),
        Size("messages", 5_000, 100, "Messages, and calls, per round.", least=2),
    ),
    measure,
)
