"""The loop both sides of a pipelined comparison run: send, keep so many in flight, check every value.

It decides what "pipelined" means, once for all peers, so that neither side is measured by another yardstick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

__all__ = ["Pace", "WrongValue", "check_value", "pipelined"]

R = TypeVar("R")


class WrongValue(Exception):
    """A reply held another value than it must."""


class Pace(NamedTuple):
    """How fast it went.

    :ivar messages: sent, answered and checked.
    :ivar elapsed_s: from the first message to the last checked value.
    :ivar cpu_s: CPU seconds spent meanwhile, by this process unless the measurement says otherwise.
    """

    messages: int
    elapsed_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Messages per second."""
        return self.messages / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per message."""
        return self.cpu_s / self.messages * 1e6


def pipelined(
    send: Callable[[int], R],
    values: Callable[[list[R]], Sequence[Any]],
    expected: Callable[[int], int],
    *,
    messages: int,
    in_flight: int,
    cpu_clock: Callable[[], float] = time.process_time,
) -> Pace:
    """Send messages 0 to `messages`, never more than `in_flight` at a time, and check each value.

    :param send: sends message number n; returns what stands for its reply.
    :param values: waits for some replies, oldest first, and returns their values.
    :param expected: the value that message number n must return.
    :param cpu_clock: CPU seconds of those whose time is to be counted.
    :raises WrongValue: a value is not the expected int.
    """
    pending: list[R] = []
    checked = 0
    half = max(1, in_flight // 2)
    cpu_at_start_s = cpu_clock()
    started_s = time.perf_counter()
    for number in range(messages):
        if len(pending) >= in_flight:
            # Half at a time: the other half keeps the other side busy while these are looked at.
            checked = _check(values(pending[:half]), checked, expected)
            del pending[:half]
        pending.append(send(number))
    checked = _check(values(pending), checked, expected)
    elapsed_s = time.perf_counter() - started_s
    cpu_s = cpu_clock() - cpu_at_start_s
    if checked != messages:
        raise WrongValue(f"{messages} messages, but {checked} values")
    return Pace(messages, elapsed_s, cpu_s)


def check_value(number: int, value: Any, expected: int) -> None:
    """Raise WrongValue unless message `number` returned that very int."""
    if type(value) is not int or value != expected:
        raise WrongValue(f"message {number} returned {value!r}, not {expected}")


def _check(values: Sequence[Any], first: int, expected: Callable[[int], int]) -> int:
    for number, value in enumerate(values, start=first):
        check_value(number, value, expected(number))
    return first + len(values)
