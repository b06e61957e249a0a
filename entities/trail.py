"""What follows a message, or an entity's coming to life, where it is part of a trace.

Decides what the host tells of both. What a trace is, and where it goes, is decided behind these protocols.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Birth", "Trail"]


class Birth(Protocol):
    """Follows one activation. It is not over before it `ended`."""

    @property
    def trace(self) -> str:
        """The trace context of what it causes elsewhere."""
        ...

    def being_current(self) -> AbstractContextManager[None]:
        """While this lasts, what user code does is part of it."""
        ...

    def ended(self, error: BaseException | None) -> None:
        """The entity has come to life, or has gone before, or failed to."""
        ...


class Trail(Protocol):
    """Follows one message from its acceptance to its answer; it stands where the message's origin stands, and so hears
    how that ends.
    """

    @property
    def trace(self) -> str:
        """The trace context of what it causes elsewhere."""
        ...

    def started(self) -> None:
        """Its handler has its first step, in its own context: what that does is part of it."""
        ...

    def refused(self, why: BaseException) -> None:
        """The message was not taken into an entity's care after all."""
        ...

    def birth(self, entity_type: str, entity_id: str) -> Birth:
        """The message brings an entity to life."""
        ...
