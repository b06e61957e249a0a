"""A figure that is quoted, with the goal it is held to.

It decides when a goal is met, and that a figure against a peer that ran slower than it is known to run says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["AtLeast", "AtMost", "Figure", "Goal"]


class AtLeast(NamedTuple):
    """A goal for what should be large.

    :ivar bound: what it must reach.
    :ivar aim: what would be good.
    """

    bound: float
    aim: float

    def met_by(self, value: float) -> bool:
        """Whether the bound is reached."""
        return value >= self.bound

    def __str__(self) -> str:
        return f"{_short(self.bound)} or more"


class AtMost(NamedTuple):
    """A goal for what should be small.

    :ivar bound: what it must not exceed.
    :ivar aim: what would be good.
    """

    bound: float
    aim: float

    def met_by(self, value: float) -> bool:
        """Whether the bound is kept."""
        return value <= self.bound

    def __str__(self) -> str:
        return f"{_short(self.bound)} or less"


Goal = AtLeast | AtMost


class Figure(NamedTuple):
    """One quoted number.

    :ivar what: of what, in a few words.
    :ivar unit: what it is in, as it is read after the number: ``times``, ``µs``.
    :ivar goal: what it is held to; None if it is only told.
    :ivar ours: the column whose median stands for us; with `peer` it says what the figure was made of.
    :ivar peer: the peer's column; None where there is none.
    :ivar fair: False if the peer was slower than it is known to be: then the figure is worth nothing.
    """

    what: str
    value: float
    unit: str
    goal: Goal | None
    ours: str
    peer: str | None = None
    fair: bool = True

    @property
    def text(self) -> str:
        """The number with its unit, and a word if it is not to be believed."""
        unfair = "" if self.fair else f" ({self.peer}: too slow to be fair)"
        return f"{_short(self.value)} {self.unit}{unfair}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one, and against a peer that was too slow to show it."""
        return None if self.goal is None or not self.fair else self.goal.met_by(self.value)

    @property
    def verdict(self) -> str:
        """The goal and whether it is met, in words; empty without one."""
        if self.goal is None:
            return ""
        said = {True: "met", False: "missed", None: "not shown"}[self.met]
        return f"{self.goal}: {said}"

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "what": self.what,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": None if self.goal is None else str(self.goal),
            "aim": None if self.goal is None else self.goal.aim,
            "met": self.met,
            "fair": self.fair,
            "text": self.text,
            "verdict": self.verdict,
            "ours": self.ours,
            "peer": self.peer,
        }


def _short(value: float) -> str:
    """Three digits or so, thousands apart."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
