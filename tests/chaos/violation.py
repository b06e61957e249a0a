"""What a checker has found wrong in a record."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.chaos.history import Event

__all__ = ["Violation"]


@dataclass(frozen=True)
class Violation:
    """A rule, how it was broken, and the events that show it, in the order in which they tell it."""

    rule: str
    what: str
    events: list[Event]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.what}", *(json.dumps(event) for event in self.events)])
