"""When entities are let go for idleness.

Decides by one heap entry per activation, however many messages come: an entry that falls due while its entity was
busy meanwhile is put back for when it will be. Exact in time, and free on the message path.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable

from entities.activation import Activation, Phase

__all__ = ["IdleWatch"]

# Timers may fire a hair before their time; asking them again at once would spin.
_EARLY_S = 1e-6

_SOON_S = 0.05


class IdleWatch:
    """Calls `let_go(activation)` for each watched activation that has been idle for its type's `max_idle_time`.

    :ivar ticking: the activations that have timers, whose messages do not count as use; each with what fires next.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        let_go: Callable[[Activation], None],
    ) -> None:
        self._loop = loop
        self._now = now
        self._let_go = let_go
        self._due: list[tuple[float, int, Activation]] = []
        self._tie = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.ticking: dict[Activation, list[asyncio.TimerHandle]] = {}

    def add(self, activation: Activation, after_s: float | None = None) -> None:
        """Watch an activation that has just come to life, unless its type is never idle.

        :param after_s: seconds until it is looked at for the first time; its type's idle time if None.
        """
        limit_s = activation.hosted.definition.options.max_idle_time
        if limit_s is not None:
            due_at = self._now() + (limit_s if after_s is None else after_s)
            heapq.heappush(self._due, (due_at, next(self._tie), activation))
            if self._due[0][2] is activation:
                self._arm()

    def ticked(self, activation: Activation) -> None:
        """A timer's message has ended, in whose time it may have been due."""
        idle = not activation.running and activation.mailbox is None
        limit_s = activation.hosted.definition.options.max_idle_time
        if idle and limit_s is not None and _over_at(activation, limit_s) <= self._now() + _EARLY_S:
            self._let_go(activation)

    def left(self, activation: Activation) -> None:
        """It has gone: none of its timers fires any more, nor holds it in memory until it would."""
        for handle in self.ticking.pop(activation, ()):
            handle.cancel()

    def end(self) -> None:
        """Let nothing more go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.end()
        if self._due:
            self._timer = self._loop.call_later(max(0.0, self._due[0][0] - self._now()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._now() + _EARLY_S
        due = self._due
        while due and due[0][0] <= now:
            activation = heapq.heappop(due)[2]
            limit_s = activation.hosted.definition.options.max_idle_time
            if activation.phase is not Phase.ACTIVE or limit_s is None:
                continue
            busy = bool(activation.running) or activation.mailbox is not None
            if busy:
                # Busy with a timer's message it may be over as soon as that has ended.
                over_at = now + (min(limit_s, _SOON_S) if activation in self.ticking else limit_s)
            else:
                over_at = _over_at(activation, limit_s)
            if over_at <= now:
                self._let_go(activation)
            elif over_at < math.inf:  # else it is kept alive for good
                heapq.heappush(due, (over_at, next(self._tie), activation))
        self._arm()


def _over_at(activation: Activation, limit_s: float) -> float:
    """When one that nobody uses has been idle for so long, or longer if it asked to be kept."""
    return max(activation.touched_at + limit_s, activation.keep_until)
