"""The same work as a counter's, for Ray actors: adds up, and returns the sum; and what that must be."""

from __future__ import annotations

import os

__all__ = ["AsyncSum", "Sum", "sum_after"]


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

    async def pid(self) -> int:
        """The process it is in."""
        return os.getpid()


def sum_after(before: int, number: int) -> int:
    """What call `number` (from 0) returns if each adds 1 and `before` had been added already."""
    return before + number + 1
