"""A thread that calls back when a time has come."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Alarm"]


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
