"""The same work as a counter's, for Ray actors: adds up, and returns the sum."""

from __future__ import annotations

__all__ = ["AsyncSum", "Sum"]


class Sum:
    """As a synchronous actor."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value


class AsyncSum:
    """As an asynchronous actor, which is what an entity's runner is too."""

    def __init__(self) -> None:
        self.value = 0

    async def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value
