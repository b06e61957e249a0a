"""What comparisons of speed share: sides that say messages, seconds and CPU seconds, and ratios of their medians.

It decides the speeds that peers are known to reach on a machine with two cores, slower than which none is a fair one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_app.bench.column import Column
from cluster_app.bench.figure import Figure, Goal
from cluster_app.bench.rounds import Rounds, Side

__all__ = [
    "BATCHED_REFERENCE_PER_S",
    "GATHERED_REFERENCE_PER_S",
    "HAND_REFERENCE_PER_S",
    "RAW_REFERENCE_PER_S",
    "per_s",
    "speed_side",
    "speeds",
    "times_as_fast",
]

# The low end of one run of each with two cores, before this package; by hand is the raw one less 40 %.
RAW_REFERENCE_PER_S = 3_300
HAND_REFERENCE_PER_S = 1_980
GATHERED_REFERENCE_PER_S = 6_400
BATCHED_REFERENCE_PER_S = 78_000


def per_s(line: Mapping[str, Any]) -> float:
    """Messages per second of one line."""
    return float(line["messages"] / line["elapsed_s"])


def speed_side(name: str, module: str, **asked: int | bool) -> Side:
    """A side that says how many messages it sent, and in how many seconds."""
    return Side(name, f"cluster_app.bench.{module}", asked, lambda line: f"{per_s(line):,.0f}/s")


def speeds(rounds: Rounds) -> dict[str, Column]:
    """A column per side."""
    return {name: Column("messages/s", [per_s(line) for line in lines]) for name, lines in rounds.items()}


def times_as_fast(
    columns: Mapping[str, Column],
    peer: str,
    reference: float,
    goal: Goal | None,
    ours: str = "entities",
) -> Figure:
    """How many times a peer's median we reach, and whether that peer ran as fast as it is known to."""
    peers = columns[peer].median
    return Figure(
        f"messages per second, against {peer}",
        columns[ours].median / peers,
        "times",
        goal,
        ours,
        peer,
        fair=peers >= reference,
    )
