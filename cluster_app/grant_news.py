"""What a runner does when a sender knows of a grant that it has not heard of yet: it waits for the coordinator.

The coordinator tells a new grant to the runner and to the senders at once, and the senders may be faster. To refuse
what they send would have them send it again. Decides for how long a frame is held for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster_app.tenure import Tenure
from cluster_app.timetable import EARLY_S

__all__ = ["GrantNews"]


class GrantNews:
    """The frames of one runner that wait for an answer of the coordinator.

    :param most_s: how long each waits; then it is treated by what is known.
    """

    def __init__(
        self, tenure: Tenure, loop: asyncio.AbstractEventLoop, now: Callable[[], float], most_s: float
    ) -> None:
        self._tenure = tenure
        self._loop = loop
        self._now = now
        self._most_s = most_s
        self._waiting: list[asyncio.Future[None]] = []

    async def of(self, epoch: tuple[int, int]) -> None:
        """Wait until it is known what this runner has of the grants up to `epoch`."""
        until = self._now() + self._most_s
        while epoch > self._tenure.known and until - self._now() > EARLY_S:
            told: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(told)
            timer = self._loop.call_later(until - self._now(), _done, told)
            try:
                await told
            finally:
                timer.cancel()

    def told(self) -> None:
        """An answer of the coordinator was applied."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _done(future)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
