"""A thread that looks whether a handler holds the event loop.

Decides from outside, so that a message pays nothing for it: twenty times a second it looks at the stack of the loop's
thread. A crew's frame in it names the message at hand. Seen again and again, with a callback left on the loop that
does not get its turn in between, the same message has held the loop all that time.

Sees handlers and lifecycle hooks. A task of the user's own that holds the loop is nobody's handler.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

from entities.activation import Activation
from entities.activator import Activator
from entities.crew import Crew, _Rest
from entities.deactivator import Deactivator
from entities.delivery import Delivery
from entities.slow_handlers import SLOW_S

__all__ = ["StallWatch"]

# Half of what counts as slow: what stands is told after 0.1 to 0.15 s.
_PERIOD_S = SLOW_S / 2

# The frames that know what they run: by their code, the local variable that holds it and the name of the hook.
_KNOWING: dict[CodeType, tuple[str, str]] = {
    Crew._work.__code__: ("job", ""),
    Activator._activate.__code__: ("activation", "__init__"),
    Activator._activate_hook.__code__: ("activation", "on_activate"),
    Deactivator._deactivate_hook.__code__: ("activation", "on_deactivate"),
}

# Stands between a crew and its handler, and tells a reader nothing.
_BETWEEN = _Rest.__await__.__code__


class _Spot(NamedTuple):
    """Where the loop's thread is: what it runs, and the stack above that, innermost first."""

    running: Delivery | Activation
    hook: str
    stack: list[tuple[FrameType, int]]


class _Sight:
    """Something seen for the first time since the loop had a turn."""

    __slots__ = ("running", "since", "told", "turned")

    def __init__(self, running: Delivery | Activation, since: float) -> None:
        self.running = running
        self.since = since
        self.told = False
        self.turned = False

    def turn(self) -> None:
        """The loop has had a turn, so what comes next is another stretch."""
        self.turned = True


class StallWatch:
    """Watches one event loop, and tells each host what of its own has held it.

    :param thread: the identifier of the loop's thread.
    :param clock: real seconds: a stepped clock stands still while a handler holds the loop that steps it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._watched = thread
        self._clock = clock
        self._sight: _Sight | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entity-stall-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            try:
                self.look()
            except Exception:  # it is there to help; it must neither end nor flood the log
                logging.getLogger("entities").exception("the watch for stalled handlers has given up")
                return

    def look(self) -> None:
        """Look once."""
        now = self._clock()
        spot = self._spot()
        if spot is None:
            self._sight = None
            return
        sight = self._sight
        if sight is None or sight.running is not spot.running or sight.turned:
            # The time of the first sight is read after it, that of all others before: so the stretch is no shorter.
            sight = self._sight = _Sight(spot.running, self._clock())
            try:
                self._loop.call_soon_threadsafe(sight.turn)
            except RuntimeError:
                self._sight = None  # the loop is closed
        elif not sight.told and now - sight.since >= SLOW_S:
            sight.told = True
            running = spot.running
            delivery = running if isinstance(running, Delivery) else None
            hosted = running.message.hosted if isinstance(running, Delivery) else running.hosted
            method = running.message.name if isinstance(running, Delivery) else spot.hook
            hosted.host.slow.standing(hosted.definition.name, method, delivery, lambda: self._stack(sight))

    def _stack(self, sight: _Sight) -> str | None:
        """Where what was seen stands now; None if it has gone on."""
        spot = self._spot()
        if spot is None or spot.running is not sight.running or sight.turned:
            return None
        summary = traceback.StackSummary.extract(iter(spot.stack))
        summary.reverse()
        return "".join(summary.format())

    def _spot(self) -> _Spot | None:
        frame = sys._current_frames().get(self._watched)
        stack: list[tuple[FrameType, int]] = []
        while frame is not None:
            knowing = _KNOWING.get(frame.f_code)
            if knowing is not None:
                variable, hook = knowing
                running: Any = frame.f_locals.get(variable)
                return _Spot(running, hook, stack) if isinstance(running, Delivery | Activation) else None
            if frame.f_code is not _BETWEEN:
                stack.append((frame, frame.f_lineno))
            frame = frame.f_back
        return None
