"""The timers of entities: messages that they send to themselves.

Decides when one is sent, and that none keeps its entity alive: one that only its timers use is idle all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from entities.activation import Activation, Phase
from entities.idle import IdleWatch

__all__ = ["Timers", "check_timer"]


def check_timer(activation: Activation, seconds: float, method: str) -> None:
    """Raise ValueError for a timer that has no meaning."""
    if not seconds > 0:
        raise ValueError(f"every({seconds!r}, {method!r}): seconds above 0")
    if method not in activation.hosted.definition.messages:
        raise ValueError(f"every({seconds!r}, {method!r}): {activation} declares no such message")


class Timers:
    """The timers of one host's entities; each ends with its activation."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: IdleWatch) -> None:
        self._loop = loop
        self._idle = idle

    def start(self, activation: Activation, seconds: float, send: Callable[[], Any]) -> None:
        """Send a message every `seconds` for as long as this activation lives, unless the last one is under way.

        :param send: sends it; returns its `EntityResponse`.
        """
        if activation.phase is Phase.GONE:
            return  # lost meanwhile: it asks too late
        pending: list[Any] = []
        handles = self._idle.ticking.setdefault(activation, [])
        mine = len(handles)

        def tick() -> None:
            if activation.phase is Phase.ACTIVE and (not pending or pending[-1].done()):
                pending[:] = [send()]
                pending[0].add_done_callback(lambda _: self._idle.ticked(activation))
            if activation.phase is not Phase.GONE:
                handles[mine] = self._loop.call_later(seconds, tick, context=blank)

        # Not in the context of the message that asked for it: its deadline and call chain are not the timer's.
        blank = contextvars.Context()
        handles.append(self._loop.call_later(seconds, tick, context=blank))
