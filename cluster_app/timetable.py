"""When a sender has to look again, and the deadlines it then finds over.

Decides nothing about what is due: it keeps one alarm for the earliest of all times that were asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cluster_app.deadlines import Deadlines
from entities.response import EntityResponse

__all__ = ["EARLY_S", "Timetable"]

EARLY_S = 1e-6  # timers may fire a hair before their time; asking them again at once would spin
_OVERTAKEN_S = 0.001
_HELD_S = 1.0  # held longer, a message is too far from its lane's order of age to end by it


class Timetable:
    """One sender's times.

    :param now: the clock, in seconds.
    :param alarm: asks that the sender be woken at or soon after a time of that clock.
    :param default_timeout_s: the deadline of a message that has none of its own.
    :param chance: a number from 0 to 1, 1 excluded: senders that failed at the same moment must not try again at one.
    """

    def __init__(
        self,
        now: Callable[[], float],
        alarm: Callable[[float], None],
        default_timeout_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.now = now
        self.default_timeout_s = default_timeout_s
        self.deadlines = Deadlines()
        self._alarm = alarm
        self._chance = chance
        self._next = float("inf")

    def wake_at(self, when: float) -> None:
        """See to it that the sender looks again by then."""
        if when < self._next:
            self._next = when
            self._alarm(when)

    @property
    def overtaken(self) -> bool:
        """Whether an alarm that rings now has nothing to do: an earlier one did it."""
        return self._next - self.now() >= _OVERTAKEN_S

    def begin(self) -> None:
        """The sender looks at everything now, and asks anew for what is still to come."""
        self._next = float("inf")

    def back_off(self, previous_s: float, first_s: float, most_s: float) -> float:
        """How long to wait before the next try, when it was `previous_s` the last time (0: there was none).

        Decorrelated jitter, as in M. Brooker's "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
        """
        return min(most_s, first_s + self._chance() * max(0.0, 3 * previous_s - first_s))

    def add(self, message: EntityResponse[Any], deadline: float) -> None:
        """This message has a deadline of its own."""
        self.deadlines.add(message, deadline)
        self.wake_at(deadline)

    def end_of(self, message: EntityResponse[Any]) -> float:
        """When a message without a deadline of its own is over."""
        return message.sent_at + self.default_timeout_s

    def part(self, message: EntityResponse[Any]) -> None:
        """A message that leaves its lane's order of age can only end in time by a deadline of its own."""
        if message.deadline is None:
            message.deadline = self.end_of(message)
            self.add(message, message.deadline)

    def part_if_held(self, message: EntityResponse[Any]) -> None:
        """The same, for one that was held so long that it comes too late in the order of age."""
        if message.deadline is None and self.now() - message.sent_at >= _HELD_S:
            self.part(message)
