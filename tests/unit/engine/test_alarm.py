"""What wakes a sender on its loop: one timer, however often it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster_app.alarm import LoopAlarm


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that knows how many of its timers are to ring."""

    waiting = 0

    def call_later(self, *args: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # passed on
        """Count what is set."""
        self.waiting += 1
        return super().call_later(*args, **options)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.waiting -= 1
        super()._timer_handle_cancelled(handle)  # type: ignore[misc]  # not in its stub


def test_asked_a_hundred_times_it_rings_once_at_the_last_time_asked_for() -> None:
    """Each ring looks at everything and asks anew: with a timer for each asking there would be ever more of them."""
    loop = CountingLoop()
    rung: list[float] = []

    def ring() -> None:
        rung.append(loop.time())
        loop.stop()

    alarm = LoopAlarm(loop, loop.time, ring)
    asked = loop.time() + 0.02
    for later in range(100, -1, -1):
        alarm.at(asked + later)
    loop.run_forever()
    assert len(rung) == 1
    assert rung[0] >= asked - 0.001
    assert loop.waiting == 1
    loop.close()
