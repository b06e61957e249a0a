"""Messages from an entity to another on its own runner, one at a time."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.latencies import latencies, latency_side

__all__ = ["ENTITY_TO_ENTITY", "measure"]


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds."""
    side = latency_side("entity to entity", "entity_to_entity", messages=asked["messages"])
    rounds = stage.play([side], asked["rounds"])
    columns = latencies(rounds)
    ours = "entity to entity p50"
    figure = Figure(
        "p50 of an entity's message to another on one runner",
        columns[ours].median,
        "µs",
        AtMost(100, 20),
        ours,
    )
    return Report("entity-to-entity", asked, columns, [figure], rounds)


ENTITY_TO_ENTITY = Benchmark(
    "entity-to-entity",
    "Latency of messages from an entity to another on the same runner.",
    (
        Size("rounds", 3, 1, "Rounds."),
        Size("messages", 20_000, 300, "Messages per round.", least=2),
    ),
    measure,
)
