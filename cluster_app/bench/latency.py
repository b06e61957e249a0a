"""One message at a time: how long each took, and the quantiles of that.

It decides where the clock is read, right before sending and right after the value is there, and which quantiles are
told; and what one message costs that shares its exchange with none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Any, NamedTuple

from cluster_app.bench.pipeline import check_value

__all__ = ["Latency", "LatencyAndCost", "latency_of", "one_at_a_time"]


class Latency(NamedTuple):
    """How long messages took, in microseconds."""

    messages: int
    p50_us: float
    p99_us: float


class LatencyAndCost(NamedTuple):
    """How long messages took, and the CPU that each cost, in microseconds.

    :ivar cpu_us: per message, over the processes whose time was counted.
    """

    messages: int
    p50_us: float
    p99_us: float
    cpu_us: float


def latency_of(seconds: Sequence[float]) -> Latency:
    """The quantiles of at least two latencies."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return Latency(len(seconds), cuts[49] * 1e6, cuts[98] * 1e6)


def one_at_a_time(
    call: Callable[[int], Any],
    messages: int,
    before: int,
    cpu_clock: Callable[[], float] = time.process_time,
) -> LatencyAndCost:
    """Call so often, each once the last is answered, and check each value.

    :param before: what the callee has added up already.
    :param cpu_clock: CPU seconds of those whose time is to be counted.
    :raises WrongValue: a value is not the expected int.
    """
    clock = time.perf_counter
    seconds: list[float] = []
    cpu_at_start_s = cpu_clock()
    for number in range(before, before + messages):
        sent_s = clock()
        value = call(1)
        seconds.append(clock() - sent_s)
        check_value(number, value, number + 1)
    cpu_s = cpu_clock() - cpu_at_start_s
    return LatencyAndCost(*latency_of(seconds), cpu_us=cpu_s / messages * 1e6)
