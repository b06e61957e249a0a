"""Messages with a deadline of their own, by when it comes.

Messages with the sender's default timeout need no entry: they end in the order in which they were sent.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Any

from entities.response import EntityResponse

__all__ = ["Deadlines"]

_FEW = 1024


class Deadlines:
    """A heap that does not keep settled replies until their time: most settle long before."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, EntityResponse[Any]]] = []
        self._ties = itertools.count()
        self._tidy_at = _FEW

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, message: EntityResponse[Any], deadline: float) -> None:
        """Keep a message until its deadline, or until it is settled and that is noticed."""
        heap = self._heap
        if len(heap) >= self._tidy_at:
            # Once for as many messages as stay: a constant for each, and never more than twice what is pending.
            heap[:] = [entry for entry in heap if not entry[2].done()]
            heapq.heapify(heap)
            self._tidy_at = max(_FEW, 2 * len(heap))
        heapq.heappush(heap, (deadline, next(self._ties), message))

    def over(self, now: float) -> Iterator[EntityResponse[Any]]:
        """Take out the messages whose deadline has come and that have no reply."""
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][2].done()):
            message = heapq.heappop(heap)[2]
            if not message.done():
                yield message

    def next(self) -> float:
        """When the next one comes; infinity if there is none."""
        return self._heap[0][0] if self._heap else float("inf")
