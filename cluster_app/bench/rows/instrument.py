"""What `observe.metrics.instrument` adds to a raw Ray call, against the same by hand with the OpenTelemetry SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["INSTRUMENT", "measure"]

PLAIN, OURS, HAND = "plain", "instrumented", "by hand"
SAID = {PLAIN: "plain", OURS: "instrumented", HAND: "opentelemetry"}
"""What the measuring program calls them."""

CPU_US = "µs of CPU per call"


def cpu_us(line: Mapping[str, Any], name: str) -> list[float]:
    """The caller's CPU microseconds per call, a figure per turn."""
    return [turn["cpu_s"] / turn["calls"] * 1e6 for turn in line[SAID[name]]]


def added_us(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    """The median of what a call costs beyond a plain one of the same turn."""
    return median(
        us - plain_us
        for line in lines
        for us, plain_us in zip(cpu_us(line, name), cpu_us(line, PLAIN), strict=True)
    )


def _says(line: Mapping[str, Any]) -> str:
    return f"{added_us([line], OURS):+.1f} µs of CPU per call, by hand {added_us([line], HAND):+.1f}"


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, in each of which the three take turns on one Ray."""
    side = Side(
        "in turns",
        "cluster_app.bench.ray_instrumented_calls",
        {"calls": asked["calls"], "in_flight": asked["in_flight"], "rounds": asked["turns"]},
        _says,
    )
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {name: Column(CPU_US, [us for line in lines for us in cpu_us(line, name)]) for name in SAID}
    ours_us, by_hand_us = added_us(lines, OURS), added_us(lines, HAND)
    figures = [
        Figure(
            "CPU added per call, against by hand",
            ours_us / max(by_hand_us, 0.001),
            "times",
            AtMost(0.5, 0.25),
            OURS,
            HAND,
            fair=by_hand_us > 0,  # else it is lost in the noise, and the ratio says nothing
        ),
        Figure("CPU added per call by instrument", ours_us, "µs", None, OURS, PLAIN),
        Figure("CPU added per call by hand", by_hand_us, "µs", None, HAND, PLAIN),
    ]
    return Report("instrument", asked, columns, figures, rounds)


INSTRUMENT = Benchmark(
    "instrument",
    "What instrument(handle) adds to a raw Ray call, against instruments by hand.",
    (
        Size("rounds", 2, 1, "Rays."),
        Size("turns", 7, 2, "Turns of each side on each Ray."),
        Size("calls", 10_000, 300, "Calls per turn."),
        Size("in_flight", 1_000, 100, "Calls in flight."),
    ),
    measure,
)
