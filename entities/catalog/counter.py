"""A number that grows: the smallest entity worth having.

It decides nothing but the sum. It never passivates, since a sum in memory would be lost with it.
"""

from __future__ import annotations

from entities import Entity, entity, message

__all__ = ["Counter"]


@entity(max_idle_time=None)
class Counter(Entity):
    """Adds up what it is told.

    :ivar value: the sum so far.
    """

    def __init__(self) -> None:
        self.value = 0

    @message
    def increment(self, by: int = 1) -> int:
        """Add `by`, which may be negative, and return the new sum."""
        self.value += by
        return self.value

    @message(idempotent=True)
    def read(self) -> int:
        """Return the sum."""
        return self.value
