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
from cluster_app.bench.rows.speeds import RAW_REFERENCE_PER_S, per_s

__all__ = ["INSTRUMENT", "measure"]

PLAIN, OURS = "plain", "instrumented"
ON_COMPLETION, AT_GET = "by hand, on completion", "by hand, at get"
NAMES = (PLAIN, OURS, ON_COMPLETION, AT_GET)
"""As the measuring program calls them."""

CPU_US = "µs of CPU per call"


def cpu_us(line: Mapping[str, Any], name: str) -> list[float]:
    """The caller's CPU microseconds per call, a figure per turn."""
    return [turn["cpu_s"] / turn["messages"] * 1e6 for turn in line[name]]


def added_us(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    """The median of what a call costs beyond a plain one of the same turn."""
    return median(
        us - plain_us
        for line in lines
        for us, plain_us in zip(cpu_us(line, name), cpu_us(line, PLAIN), strict=True)
    )


def _says(line: Mapping[str, Any]) -> str:
    return (
        f"{added_us([line], OURS):+.1f} µs of CPU per call, "
        f"by hand {added_us([line], ON_COMPLETION):+.1f} on completion and {added_us([line], AT_GET):+.1f} at get"
    )


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, in each of which the four take turns on one Ray."""
    side = Side(
        "in turns",
        "cluster_app.bench.ray_instrumented_calls",
        {"calls": asked["calls"], "in_flight": asked["in_flight"], "rounds": asked["turns"]},
        _says,
    )
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {name: Column(CPU_US, [us for line in lines for us in cpu_us(line, name)]) for name in NAMES}
    plain_per_s = median(per_s(turn) for line in lines for turn in line[PLAIN])
    us = {name: added_us(lines, name) for name in NAMES[1:]}
    figures = [
        Figure(
            f"CPU added per call, against {by_hand}",
            us[OURS] / max(us[by_hand], 0.001),
            "times",
            AtMost(0.5, 0.25),
            OURS,
            by_hand,
            # What is lost in the noise makes a ratio that says nothing, and so do calls that something slowed.
            fair=us[by_hand] > 0 and plain_per_s >= RAW_REFERENCE_PER_S,
        )
        for by_hand in (ON_COMPLETION, AT_GET)
    ]
    figures += [
        Figure(f"CPU added per call: {name}", added, "µs", None, name, PLAIN) for name, added in us.items()
    ]
    return Report("instrument", asked, columns, figures, rounds)


INSTRUMENT = Benchmark(
    "instrument",
    "What instrument(handle) adds to a raw Ray call, against instruments by hand.",
    (
        Size("rounds", 2, 1, "Rays."),
        Size("turns", 20, 2, "Turns of each side on each Ray."),
        Size("calls", 4_000, 300, "Calls per turn."),
        Size("in_flight", 1_000, 100, "Calls in flight."),
    ),
    measure,
)
