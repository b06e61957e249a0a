"""Entities with a process of their own that come and go: how long a start takes, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["HOSTED", "measure"]

OURS, RAW, LEFT = "hosted entity", "raw Ray actor", "left behind"
START = "ms to the first value"
OURS_CPU, RAW_CPU = "hosted entity's process", "raw Ray actor's process"
CPU = "ms of CPU until the first value"


def _says(line: Mapping[str, Any]) -> str:
    return f"{median(line['starts_ms']):,.0f} ms to the first value, raw {median(line['raw_starts_ms']):,.0f}"


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, in each of which the two take turns on one Ray."""
    side = Side("in turns", "cluster_app.bench.hosted_entities", {"entities": asked["entities"]}, _says)
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {
        OURS: Column(START, [ms for line in lines for ms in line["starts_ms"]]),
        RAW: Column(START, [ms for line in lines for ms in line["raw_starts_ms"]]),
        OURS_CPU: Column(CPU, [ms for line in lines for ms in line["cpu_ms"]]),
        RAW_CPU: Column(CPU, [ms for line in lines for ms in line["raw_cpu_ms"]]),
        LEFT: Column("left", [float(sum(line["left"].values())) for line in lines]),
    }
    figures = [
        Figure(
            "start of a hosted entity, against a raw Ray actor's",
            columns[OURS].median / columns[RAW].median,
            "times",
            AtMost(1.1, 1.0),
            OURS,
            RAW,
        ),
        Figure(
            "CPU of the process until its first value, against a raw Ray actor's",
            columns[OURS_CPU].median / columns[RAW_CPU].median,
            "times",
            None,
            OURS_CPU,
            RAW_CPU,
        ),
        Figure(
            f"processes, entities, lanes and series left after {asked['entities']} hosted entities",
            max(columns[LEFT].values),
            "left",
            AtMost(0, 0),
            LEFT,
        ),
    ]
    return Report("hosted", asked, columns, figures, rounds)


HOSTED = Benchmark(
    "hosted",
    "Entities with a process of their own that come and go, against raw Ray actors.",
    (
        Size("rounds", 1, 1, "Rays."),
        Size("entities", 40, 1, "Entities, and raw actors, in turns."),
    ),
    measure,
)
