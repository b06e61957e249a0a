"""How long the answer to a frame waits for the messages that came with it.

Decides that it takes along what ends in its first step, and for a moment also what its entities' mailboxes hold up: an
answer that rides back is spared an exchange of its own. What a handler waits for is never waited for here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from entities.crew import Crew
from entities.delivery import Delivery

__all__ = ["FirstSteps"]

_RIDE_S = 0.01  # how long answers that are there wait for those of messages in mailboxes


class FirstSteps:
    """The frames of one runner whose messages have yet to be stepped."""

    def __init__(self, crew: Crew, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._crew = crew
        self._loop = loop
        self._now = now

    async def of(self, behind: list[Delivery]) -> None:
        """Wait for the first steps of what was taken, and for a while also of what waits in mailboxes.

        :param behind: what waits there, or did; it is emptied.
        """
        stepped: asyncio.Future[None] = self._loop.create_future()
        self._crew.then(partial(self._ride, stepped, behind, None))
        await stepped

    def _ride(self, stepped: asyncio.Future[None], behind: list[Delivery], latest: float | None) -> bool:
        """Everything started before has had its first step; tells whether that is all there is to wait for."""
        if latest is None:
            latest = self._now() + _RIDE_S
        while behind and behind[-1].started:
            behind.pop()
        if behind and self._crew.has_started and self._now() < latest:
            self._crew.then(partial(self._ride, stepped, behind, latest))
            return False
        behind.clear()
        if not stepped.done():
            stepped.set_result(None)
        return True
