"""Messages to entities against raw Ray calls: the rounds, their medians and the ratio.

It decides the order of the rounds (who goes first alternates, so that a machine that warms up or tires
favours nobody) and what is quoted. Each round of each side is a process and a Ray of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from cluster_app.bench.child import run_child
from cluster_app.bench.pipeline import Pace

__all__ = ["Comparison", "compare"]

ENTITIES = "cluster_app.bench.entity_messages"
RAW = "cluster_app.bench.ray_calls"
RAW_REFERENCE_PER_S = 3_300  # the slowest raw pace once measured with two cores: a slower peer is no fair one


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of both sides, in messages per second.

    :ivar entities_per_s: messages to entities, a figure per round.
    :ivar raw_per_s: raw Ray calls, a figure per round.
    :ivar asked: what was measured, by name.
    """

    entities_per_s: tuple[float, ...]
    raw_per_s: tuple[float, ...]
    asked: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """The median of the entities' rounds over the median of the raw ones."""
        return median(self.entities_per_s) / median(self.raw_per_s)

    @property
    def raw_is_fair(self) -> bool:
        """Whether the peer ran as fast as it is known to: on a busy machine the ratio is worth nothing."""
        return median(self.raw_per_s) >= RAW_REFERENCE_PER_S

    def as_dict(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return {
            "entities_per_s": [round(value, 1) for value in self.entities_per_s],
            "raw_per_s": [round(value, 1) for value in self.raw_per_s],
            "entities_median_per_s": round(median(self.entities_per_s), 1),
            "raw_median_per_s": round(median(self.raw_per_s), 1),
            "ratio": round(self.ratio, 2),
            "raw_is_fair": self.raw_is_fair,
            "asked": dict(self.asked),
        }

    def table(self) -> Table:
        """The same for people."""
        table = Table("round", "entities, messages/s", "raw Ray, calls/s", title="pipelined")
        for number, pair in enumerate(zip(self.entities_per_s, self.raw_per_s, strict=True), start=1):
            table.add_row(str(number), *(f"{value:,.0f}" for value in pair))
        table.add_section()
        table.add_row("median", f"{median(self.entities_per_s):,.0f}", f"{median(self.raw_per_s):,.0f}")
        table.add_row("ratio", f"{self.ratio:.1f}", "1" if self.raw_is_fair else "1, too slow to be fair")
        return table


def compare(
    *,
    rounds: int,
    messages: int,
    calls: int,
    entities: int,
    in_flight: int,
    told: Callable[[str], None],
    child: Callable[[str, Mapping[str, int]], Pace] = run_child,
) -> Comparison:
    """Run `rounds` of each side, one after another, and tell of each as it ends."""
    asks = {
        ENTITIES: {"messages": messages, "in_flight": in_flight, "entities": entities},
        RAW: {"messages": calls, "in_flight": in_flight},
    }
    paces: dict[str, list[float]] = {ENTITIES: [], RAW: []}
    for number in range(rounds):
        for side in (ENTITIES, RAW) if number % 2 == 0 else (RAW, ENTITIES):
            paces[side].append(child(side, asks[side]).per_s)
            name = "entities" if side == ENTITIES else "raw Ray"
            told(f"round {number + 1}: {name} {paces[side][-1]:,.0f}/s")
    asked = {
        "rounds": rounds,
        "messages": messages,
        "calls": calls,
        "entities": entities,
        "in_flight": in_flight,
    }
    return Comparison(tuple(paces[ENTITIES]), tuple(paces[RAW]), asked)
