"""An entity that asks others and keeps the time: what is measured from entity to entity."""

from __future__ import annotations

import time

from cluster_app.bench.pipeline import check_value
from entities import Entity, entity, message
from entities.catalog import Counter

__all__ = ["ASKED", "Asker"]

ASKED = "asked"  # the counter's id


@entity(max_idle_time=None)
class Asker(Entity):
    """Awaits one counter again and again, which has added up 1 before."""

    def __init__(self) -> None:
        self._asked = 1

    @message
    async def ask(self, times: int) -> list[float]:
        """Send so many messages, one at a time; the seconds from sending until each value was there."""
        remote = self.entity(Counter, ASKED).increment.remote
        clock = time.perf_counter
        seconds: list[float] = []
        for number in range(self._asked, self._asked + times):
            sent_s = clock()
            value = await remote(1)
            seconds.append(clock() - sent_s)
            check_value(number, value, number + 1)
        self._asked += times
        return seconds
