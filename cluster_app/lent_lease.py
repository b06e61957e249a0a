"""The part of its owner's lease that a process of one entity lives on.

Decides until when it may run: each answer that the process gives is a mark on its own clock, and what its owner then
says was left to it counts from that mark, which is earlier than any moment the owner can have meant. So no clock is
compared, and the loan ends before the lease does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster_app.annex_calls import Lent

__all__ = ["LentLease", "LentWay"]

_MARKS = 1024  # answers that may still be referred to; older ones would lend less anyway


class LentLease:
    """A gate that is open while the loan runs.

    :param opened: called when it opens again.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], opened: Callable[[], None]
    ) -> None:
        self.until = float("-inf")
        self._loop = loop
        self._now = now
        self._call_back = opened
        self._marks: dict[int, float] = {}
        self._held: list[asyncio.Future[None]] = []
        self._answers = 0

    def mark(self) -> int:
        """An answer is given now; its number."""
        number = self._answers
        self._answers += 1
        self._marks[number] = self._now()
        self._marks.pop(number - _MARKS, None)
        return number

    def lend(self, lent: Lent) -> None:
        """Take over what the owner lends."""
        marked_at = self._marks.get(lent.answer)
        if marked_at is None:
            return
        closed = self._now() >= self.until
        self.until = max(self.until, marked_at + lent.left_s)
        if closed and self._now() < self.until:
            held, self._held = self._held, []
            for opened in held:
                if not opened.done():
                    opened.set_result(None)
            self._call_back()

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self._now() < self.until

    def opened(self) -> asyncio.Future[None]:
        """A future of the caller's own that is done when it runs again: one for all would be cancelled with any."""
        opened: asyncio.Future[None] = self._loop.create_future()
        self._held.append(opened)
        return opened


class LentWay:
    """What such a process's client asks of the runner beside it: there is none, only the right to send."""

    runner_id = ""

    def __init__(self, lease: LentLease, loop: asyncio.AbstractEventLoop) -> None:
        self._lease = lease
        self._loop = loop

    def may_leave(self) -> bool:
        """Whether messages may leave this process now."""
        return self._lease.runs

    def here(self) -> bool:
        """No thread of this process is a runner's."""
        return False

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back on the entity's loop."""
        self._loop.call_soon_threadsafe(callback)

    def take(self, lane: Any, message: Any, sequence: int) -> None:
        """Never asked: no lane is local here."""
        raise RuntimeError("no runner lives in this process")

    def owes(self, shard: Any, cause: Any) -> bool:
        """No shard is here."""
        return False

    def cancel(self, sequence: int) -> None:
        """Never asked, either."""
