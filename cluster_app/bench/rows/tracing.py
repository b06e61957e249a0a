"""What traces cost: CPU per message with sampling off and with 1 % sampled, over that with no traces at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.confidence import upper_bound
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["TRACING", "measure"]

CPU_US = "µs of CPU per message"
COLUMNS = {
    "none_us": "no traces",
    "off_us": "sampling off",
    "ratio_off_us": "a ratio near 0",
    "percent_us": "1 % sampled",
    "all_us": "all sampled",
}


def _percents(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [
        (value / none - 1) * 100
        for line in lines
        for value, none in zip(line[name], line["none_us"], strict=True)
    ]


def _says(line: Mapping[str, Any]) -> str:
    off, percent = mean(_percents([line], "off_us")), mean(_percents([line], "percent_us"))
    return f"off {off:+.1f} %, 1 % sampled {percent:+.1f} % over {len(line['off_us'])} pairs"


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, each of which has a Ray, a cluster and `pairs` pairs."""
    side = Side(
        "tracing on and off",
        "cluster_app.bench.tracing_on_off",
        {name: asked[name] for name in ("pairs", "messages", "in_flight", "entities")},
        _says,
    )
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {
        title: Column(CPU_US, [value for line in lines for value in line[name]])
        for name, title in COLUMNS.items()
    }
    none, off, ratio, percent, every = COLUMNS.values()
    traced_us = [each - mean(line["none_us"]) for line in lines for each in line["all_us"]]
    offs, ratios, percents = (_percents(lines, name) for name in ("off_us", "ratio_off_us", "percent_us"))
    figures = [
        Figure(
            "CPU that sampling off adds, upper 95 % bound", upper_bound(offs), "%", AtMost(2, 1), off, none
        ),
        Figure("CPU that sampling off adds, mean", mean(offs), "%", None, off, none),
        Figure(
            "CPU that a ratio near 0 adds, upper 95 % bound",
            upper_bound(ratios),
            "%",
            AtMost(5, 2),
            ratio,
            none,
        ),
        Figure(
            "CPU that 1 % sampled adds, upper 95 % bound",
            upper_bound(percents),
            "%",
            AtMost(5, 3),
            percent,
            none,
        ),
        Figure("CPU that 1 % sampled adds, mean", mean(percents), "%", None, percent, none),
        Figure("CPU of a sampled message beyond others", mean(traced_us), "µs", None, every, none),
    ]
    return Report("tracing", asked, columns, figures, rounds)


TRACING = Benchmark(
    "tracing",
    "What traces cost: CPU per message over sender and runner, with sampling off, 1 % and all sampled.",
    (
        Size("rounds", 4, 1, "Rays, each with a cluster."),
        Size("pairs", 6, 2, "Pairs in each, so that there are 20 or more in all.", least=2),
        Size("messages", 200_000, 2_000, "Messages of each kind in a pair, in turns."),
        Size("entities", 1_000, 100, "Entities that all messages go to."),
        Size("in_flight", 1_000, 200, "Messages in flight."),
    ),
    measure,
)
