"""An entity with a process of its own, and nothing else to it: what coming and going costs."""

from __future__ import annotations

import os

from entities import Entity, entity, message

__all__ = ["HostedSum"]


@entity(hosting="actor", max_idle_time=0.5)
class HostedSum(Entity):
    """Adds up, in a Ray actor of its own, and leaves soon."""

    def __init__(self) -> None:
        self.value = 0

    @message
    def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value

    @message
    def pid(self) -> int:
        """The process it is in."""
        return os.getpid()
