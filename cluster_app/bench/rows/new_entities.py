"""How many entities a second come to life by their first message."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.figure import AtLeast, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.speeds import speed_side, speeds

__all__ = ["NEW_ENTITIES", "measure"]


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds."""
    side = speed_side(
        "new entities", "new_entities", entities=asked["entities"], in_flight=asked["in_flight"]
    )
    rounds = stage.play([side], asked["rounds"])
    columns = speeds(rounds)
    figure = Figure(
        "first messages to new entities",
        columns[side.name].median,
        "per second",
        AtLeast(40_000, 100_000),
        side.name,
    )
    return Report("new-entities", asked, columns, [figure], rounds)


NEW_ENTITIES = Benchmark(
    "new-entities",
    "How many entities a second come to life by their first message.",
    (
        Size("rounds", 3, 1, "Rounds."),
        Size("entities", 200_000, 1_000, "New entities per round."),
        Size("in_flight", 1_000, 200, "Messages in flight."),
    ),
    measure,
)
