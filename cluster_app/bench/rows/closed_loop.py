"""Many callers that each wait for their reply before they send again, against raw Ray the same way."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.figure import AtLeast
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.speeds import RAW_REFERENCE_PER_S, speed_side, speeds, times_as_fast

__all__ = ["CLOSED_LOOP", "measure"]


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds of both sides."""
    in_flight = asked["in_flight"]
    rounds = stage.play(
        [
            speed_side("entities", "entity_closed_loop", messages=asked["messages"], in_flight=in_flight),
            speed_side("raw Ray", "ray_closed_loop", messages=asked["calls"], in_flight=in_flight),
        ],
        asked["rounds"],
    )
    columns = speeds(rounds)
    figures = [times_as_fast(columns, "raw Ray", RAW_REFERENCE_PER_S, AtLeast(20, 40))]
    return Report("closed-loop", asked, columns, figures, rounds)


CLOSED_LOOP = Benchmark(
    "closed-loop",
    "Many callers that wait for each reply before they send again, against raw Ray with as many in flight.",
    (
        Size("rounds", 5, 1, "Rounds of each side."),
        Size("messages", 200_000, 1_280, "Messages to entities per round."),
        Size("calls", 20_000, 400, "Calls to the raw Ray actor per round."),
        Size("in_flight", 256, 64, "Callers, each with one message in flight."),
    ),
    measure,
)
