"""The bounded queue of one entity.

Decides order and the bound. Does not decide when a message starts: the host does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

M = TypeVar("M")


class Mailbox(Generic[M]):
    """Messages that wait for one entity, first in first out, at most `capacity` of them.

    An entity has one only while something waits: an empty deque takes 600 bytes, and most entities idle.
    """

    __slots__ = ("_capacity", "_waiting")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[M] = deque()

    def offer(self, message: M) -> bool:
        """Queue `message` at the end; False, and nothing changed, when the mailbox is full."""
        if len(self._waiting) >= self._capacity:
            return False
        self._waiting.append(message)
        return True

    def put_back(self, message: M) -> None:
        """Queue at the front what had been taken and was not handled; the bound does not matter to it."""
        self._waiting.appendleft(message)

    def take(self) -> M:
        """Remove and return the oldest message. Raises IndexError when empty."""
        return self._waiting.popleft()

    def remove(self, message: M) -> bool:
        """Take one message out of the queue; False if it is not there."""
        try:
            self._waiting.remove(message)
        except ValueError:
            return False
        return True

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[M]:
        return iter(self._waiting)
