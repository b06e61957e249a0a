"""What `observe.metrics.instrument` adds to a raw Ray call, against the same by hand with the OpenTelemetry SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["INSTRUMENT", "measure"]

PLAIN, HAND, OURS = "plain", "by hand", "instrument"
CPU_US = "µs of CPU per call"


def cpu_us(line: Mapping[str, Any]) -> float:
    """The caller's CPU microseconds per call."""
    return float(line["cpu_s"] / line.get("messages", line.get("calls")) * 1e6)


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds of the three sides; what is plain is taken off the other two."""
    asked_of_each = {"messages": asked["calls"], "in_flight": asked["in_flight"]}
    sides = [
        Side(
            name,
            f"cluster_app.bench.{module}",
            asked_of_each,
            lambda line: f"{cpu_us(line):,.1f} µs of CPU per call",
        )
        for name, module in (
            (PLAIN, "ray_calls"),
            (HAND, "ray_hand_instrumented"),
            (OURS, "instrumented_calls"),
        )
    ]
    rounds = stage.play(sides, asked["rounds"])
    columns = {name: Column(CPU_US, [cpu_us(line) for line in lines]) for name, lines in rounds.items()}
    plain_us = columns[PLAIN].median
    by_hand_us, ours_us = columns[HAND].median - plain_us, columns[OURS].median - plain_us
    return Report(
        "instrument",
        asked,
        columns,
        [
            # Nothing added by hand, within the noise, makes the ratio meaningless.
            Figure(
                "CPU added per call, against by hand",
                ours_us / max(by_hand_us, 0.001),
                "times",
                AtMost(0.5, 0.25),
                OURS,
                HAND,
                fair=by_hand_us > 0,
            ),
            Figure("CPU added per call by instrument", ours_us, "µs", None, OURS, PLAIN),
            Figure("CPU added per call by hand", by_hand_us, "µs", None, HAND, PLAIN),
        ],
        rounds,
    )


INSTRUMENT = Benchmark(
    "instrument",
    "What instrument(handle) adds to a raw Ray call, against instruments by hand.",
    (
        Size("rounds", 7, 1, "Rounds of each side."),
        Size("calls", 20_000, 400, "Calls per round."),
        Size("in_flight", 1_000, 200, "Calls in flight."),
    ),
    measure,
)
