"""What calls a sender back when a time has come: a thread, or an event loop. Each keeps one time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

__all__ = ["Alarm", "LoopAlarm"]


class Alarm:
    """Calls `ring` at or soon after each time that was asked for; several askings before that become one.

    :param now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float], ring: Callable[[], None], name: str) -> None:
        self._now = now
        self._ring = ring
        self._due = float("inf")
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def at(self, when: float) -> None:
        """Ring at this time, or earlier if that was asked for already. Never blocks for long."""
        with self._changed:
            if when < self._due:
                self._due = when
                self._changed.notify()

    def end(self) -> None:
        """Ring no more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (wait_s := self._due - self._now()) > 0:
                    self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
                if self._ended:
                    return
                self._due = float("inf")
            self._ring()


class LoopAlarm:
    """Calls `ring` on an event loop at or soon after the time that was asked for last.

    Who asks again does so because that time is earlier, or because it has looked at everything meanwhile: so one timer
    is enough. One for each asking would make ever more of them: each that rings looks at everything, and asks anew.

    :param now: the clock, in seconds; the loop's timers must follow it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], ring: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._now = now
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float) -> None:
        """Ring then, and not at the time that was asked for before. From any thread; never blocks."""
        self._loop.call_soon_threadsafe(self._set, when)

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, when - self._now()), self._ring)
