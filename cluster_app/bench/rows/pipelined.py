"""Pipelined messages to many entities against pipelined calls of every peer, the same number in flight."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.figure import AtLeast
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.speeds import (
    BATCHED_REFERENCE_PER_S,
    GATHERED_REFERENCE_PER_S,
    HAND_REFERENCE_PER_S,
    RAW_REFERENCE_PER_S,
    speed_side,
    speeds,
    times_as_fast,
)

__all__ = ["PIPELINED", "measure"]


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds of all five sides."""
    many, few, gathered = asked["messages"], asked["calls"], asked["gathered"]
    in_flight = asked["in_flight"]
    rounds = stage.play(
        [
            speed_side(
                "entities",
                "entity_messages",
                messages=many,
                in_flight=in_flight,
                entities=asked["entities"],
            ),
            speed_side("raw Ray", "ray_calls", messages=few, in_flight=in_flight),
            speed_side(
                "raw Ray, instrumented by hand", "ray_hand_instrumented", messages=few, in_flight=in_flight
            ),
            speed_side(
                "xoscar gather", "xoscar_calls", messages=gathered, in_flight=in_flight, batched=False
            ),
            speed_side("xoscar batch", "xoscar_calls", messages=many, in_flight=in_flight, batched=True),
        ],
        asked["rounds"],
    )
    columns = speeds(rounds)
    figures = [
        times_as_fast(columns, "raw Ray", RAW_REFERENCE_PER_S, AtLeast(40, 70)),
        times_as_fast(columns, "raw Ray, instrumented by hand", HAND_REFERENCE_PER_S, None),
        times_as_fast(columns, "xoscar gather", GATHERED_REFERENCE_PER_S, AtLeast(10, 25)),
        times_as_fast(columns, "xoscar batch", BATCHED_REFERENCE_PER_S, AtLeast(1.2, 2.5)),
    ]
    return Report("pipelined", asked, columns, figures, rounds)


PIPELINED = Benchmark(
    "pipelined",
    "Messages to entities, metrics on, against calls of raw Ray and xoscar to one actor: all pipelined.",
    (
        Size("rounds", 5, 1, "Rounds of each side."),
        Size("messages", 400_000, 4_000, "Messages to entities, and batched calls of xoscar, per round."),
        Size("calls", 20_000, 400, "Calls to the raw Ray actor per round."),
        Size("gathered", 60_000, 2_000, "Gathered calls of xoscar per round."),
        Size("entities", 1_000, 100, "Entities that the messages go to."),
        Size("in_flight", 2_000, 200, "Messages or calls in flight, on every side."),
    ),
    measure,
)
