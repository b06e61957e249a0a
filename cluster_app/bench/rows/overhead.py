"""What metrics cost: CPU per message with them over CPU per message without, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.confidence import upper_bound
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["OVERHEAD", "measure"]

CPU_US = "µs of CPU per message"


def ratios(line: Mapping[str, Any]) -> list[float]:
    """On over off, a ratio per pair."""
    return [on / off for on, off in zip(line["on_us"], line["off_us"], strict=True)]


def _says(line: Mapping[str, Any]) -> str:
    return f"{(mean(ratios(line)) - 1) * 100:+.1f} % over {len(line['on_us'])} pairs"


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, each of which has a Ray, two clusters and `pairs` pairs."""
    side = Side(
        "metrics on and off",
        "cluster_app.bench.metrics_on_off",
        {name: asked[name] for name in ("pairs", "messages", "in_flight", "entities")},
        _says,
    )
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    on, off = "metrics on", "metrics off"
    columns = {
        on: Column(CPU_US, [value for line in lines for value in line["on_us"]]),
        off: Column(CPU_US, [value for line in lines for value in line["off_us"]]),
    }
    percents = [(ratio - 1) * 100 for line in lines for ratio in ratios(line)]
    figures = [
        Figure("CPU that metrics add, upper 95 % bound", upper_bound(percents), "%", AtMost(6, 2), on, off),
        Figure("CPU that metrics add, mean", mean(percents), "%", None, on, off),
    ]
    return Report("overhead", asked, columns, figures, rounds)


OVERHEAD = Benchmark(
    "overhead",
    "What metrics cost: CPU per message over sender and runner, with them and without.",
    (
        Size("rounds", 4, 1, "Rays, each with a cluster that counts and one that does not."),
        Size("pairs", 6, 2, "Pairs in each, so that there are 20 or more in all.", least=2),
        Size("messages", 200_000, 2_000, "Messages to each cluster in a pair, in turns."),
        Size("entities", 1_000, 100, "Entities that the messages go to."),
        Size("in_flight", 1_000, 200, "Messages in flight."),
    ),
    measure,
)
