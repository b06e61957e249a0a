"""The closed loop, and one message at a time: what is sent, checked and told. No Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cluster_app.bench.closed_loop import closed_loop
from cluster_app.bench.latency import latency_of, one_at_a_time
from cluster_app.bench.pipeline import WrongValue


def adder(open_now: list[int], wrong_at: int | None = None) -> Callable[[int], Coroutine[Any, Any, int]]:
    """Somebody who adds up, later; `open_now` gains a figure per message: how many were in progress."""
    value = 0
    in_progress = 0

    async def send(by: int) -> int:
        nonlocal value, in_progress
        in_progress += 1
        open_now.append(in_progress)
        await asyncio.sleep(0)
        in_progress -= 1
        value += by
        return -1 if value == wrong_at else value

    return send


def test_each_caller_sends_again_only_once_it_has_its_reply() -> None:
    """Never more than one message of a caller is in flight, and all are sent."""
    in_progress: list[list[int]] = [[], [], []]
    pace = asyncio.run(closed_loop([adder(opened) for opened in in_progress], each=5, before=0))
    assert pace.messages == 15
    assert in_progress == [[1] * 5] * 3


def test_a_wrong_value_ends_the_closed_loop() -> None:
    """Whichever caller gets it."""
    with pytest.raises(WrongValue, match="message 3 returned -1, not 4"):
        asyncio.run(closed_loop([adder([]), adder([], wrong_at=4)], each=5, before=0))


def test_one_at_a_time_checks_each_value() -> None:
    """A callee that has added up more than it was told is found out at once."""
    value = 0

    def call(by: int) -> int:
        nonlocal value
        value += by
        return value

    assert one_at_a_time(call, 10, before=0).messages == 10
    with pytest.raises(WrongValue, match="message 11 returned 11, not 12"):
        one_at_a_time(call, 10, before=11)


def test_quantiles_are_those_of_the_latencies() -> None:
    """Of 0 to 100 ms in steps of 1 ms, the median is 50 ms and the 99th percentile 99 ms."""
    latency = latency_of([number / 1000 for number in range(101)])
    assert latency.messages == 101
    assert [latency.p50_us, latency.p99_us] == pytest.approx([50_000, 99_000])
