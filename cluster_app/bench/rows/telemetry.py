"""What it costs that telemetry leaves: the agent's CPU, and speed whatever the collector does."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtLeast, AtMost, Figure
from cluster_app.bench.otlp_sink import BEHAVIOURS
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["TELEMETRY", "measure"]

HEALTHY, *OTHERS = BEHAVIOURS
AGENT = "agent"


def ratios(line: Mapping[str, Any], behaviour: str) -> list[float]:
    """Speed with such a collector over speed with a healthy one, a ratio per turn."""
    return [other / healthy for other, healthy in zip(line[behaviour], line[HEALTHY], strict=True)]


def _says(line: Mapping[str, Any]) -> str:
    against = ", ".join(f"{name} {mean(ratios(line, name)):.2f}" for name in OTHERS)
    return f"{median(line[HEALTHY]):,.0f}/s, agent {mean(line['agent_percent']):.1f} %; against healthy: {against}"


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds, each of which has a Ray, a cluster, a collector and `turns` turns of each behaviour."""
    side = Side(
        "collectors",
        "cluster_app.bench.ray_collectors",
        {name: asked[name] for name in ("turns", "messages", "in_flight", "entities")},
        _says,
    )
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {
        name: Column("messages/s", [speed for line in lines for speed in line[name]]) for name in BEHAVIOURS
    }
    columns[AGENT] = Column("% of a core", [share for line in lines for share in line["agent_percent"]])
    figures = [
        Figure("CPU of a node's agent under full load", columns[AGENT].median, "%", AtMost(5, 2), AGENT),
        *(
            Figure(
                f"messages per second, collector {name}, against a healthy one",
                mean([ratio for line in lines for ratio in ratios(line, name)]),
                "times",
                AtLeast(0.9, 1.0),
                name,
                HEALTHY,
            )
            for name in OTHERS
        ),
    ]
    return Report("telemetry", asked, columns, figures, rounds)


TELEMETRY = Benchmark(
    "telemetry",
    "What it costs that telemetry leaves, to a collector that is there, absent, slow, or refuses.",
    (
        Size("rounds", 3, 1, "Rays, each with a cluster and a collector."),
        Size("turns", 6, 1, "Turns of each behaviour in each."),
        Size("messages", 200_000, 2_000, "Messages in a turn."),
        Size("entities", 1_000, 100, "Entities that the messages go to."),
        Size("in_flight", 2_000, 200, "Messages in flight."),
    ),
    measure,
)
