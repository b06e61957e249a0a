"""The peers' own loops: they keep as many in flight as they may, and check each value. No Ray."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque

import pytest

from cluster_app.bench.departure import await_end
from cluster_app.bench.lots import two_lots
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_closed_loop import closed_loop_of_calls
from cluster_app.bench.ray_hand_instrumented import AtGet


def test_raw_calls_in_a_closed_loop_are_checked_in_order() -> None:
    """The next call is made once the oldest is answered, and never more are open than there are callers."""
    open_calls: deque[int] = deque()
    most_open = 0

    def call(by: int) -> int:
        nonlocal most_open
        open_calls.append((open_calls[-1] if open_calls else 0) + by)
        most_open = max(most_open, len(open_calls) - answered)
        return len(open_calls)

    answered = 0

    def get(number: int) -> int:
        nonlocal answered
        answered += 1
        return open_calls[number - 1]

    pace = closed_loop_of_calls(get, call, 50, in_flight=8, before=0)
    assert (pace.messages, len(open_calls), most_open) == (50, 50, 8)
    with pytest.raises(WrongValue, match="message 0 returned 51, not 1"):
        closed_loop_of_calls(get, call, 50, in_flight=8, before=0)


def test_two_lots_are_under_way_and_each_value_is_checked() -> None:
    """Half of what may be in flight in each, and the last one is as small as what is left."""
    value = 0
    sizes: list[int] = []
    open_now = most_open = 0

    async def lot(count: int) -> list[int]:
        nonlocal value, open_now, most_open
        sizes.append(count)
        open_now += count
        most_open = max(most_open, open_now)
        first, value = value, value + count
        await asyncio.sleep(0)
        open_now -= count
        return [first + number + 1 for number in range(count)]

    pace = asyncio.run(two_lots(lot, 23, in_flight=10, before=0))
    assert (pace.messages, sorted(sizes), most_open) == (23, [3, 5, 5, 5, 5], 10)
    with pytest.raises(WrongValue, match="returned 24, which is no new sum"):
        asyncio.run(two_lots(lot, 5, in_flight=10, before=0))


def test_lots_may_overtake_each_other_but_no_sum_may_come_twice() -> None:
    """What is handled in another order than sent is right; the same sum for two messages is not."""
    answers = iter([[3, 4], [1, 2], [5, 5]])

    async def lot(count: int) -> list[int]:
        return next(answers)

    assert asyncio.run(two_lots(lot, 4, in_flight=4, before=0)).messages == 4
    with pytest.raises(WrongValue, match="message 1 returned 5, which is no new sum"):
        asyncio.run(two_lots(lot, 2, in_flight=4, before=4))


@pytest.mark.parametrize("wrong", [0, 3, 1.0, True, None])
def test_a_value_that_cannot_be_a_sum_is_wrong(wrong: object) -> None:
    """Nothing was added, more than there was, or what only equals an int."""

    async def lot(count: int) -> list[object]:
        return [2, wrong]

    with pytest.raises(WrongValue, match="message 1 returned"):
        asyncio.run(two_lots(lot, 2, in_flight=4, before=0))


def test_a_lot_that_lacks_a_value_is_no_lot() -> None:
    """As many values as messages, or there is no figure."""

    async def lot(count: int) -> list[int]:
        return [number + 1 for number in range(count - 1)]

    with pytest.raises(WrongValue, match="5 messages, but 4 values"):
        asyncio.run(two_lots(lot, 5, in_flight=10, before=0))


def test_calls_by_hand_at_get_are_counted_when_made_and_timed_when_fetched() -> None:
    """One of each per call, or there is no figure; values come as they were fetched."""
    by_hand = AtGet(lambda by: by + 1, lambda references: [reference * 10 for reference in references])
    sent = [by_hand.send(number) for number in range(3)]
    assert by_hand.values(sent) == [20, 20, 20]
    by_hand.end(3)

    forgotten = AtGet(lambda by: by, list)
    forgotten.send(0)
    with pytest.raises(WrongValue, match="after 1 calls"):
        forgotten.end(1)


def test_a_process_that_does_not_leave_in_time_ends_the_measurement() -> None:
    """What is started next would be measured beside it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        with pytest.raises(WrongValue, match=f"process {process.pid} is still there after 0 s"):
            await_end(process.pid, within_s=0)
        process.communicate("\n")
    await_end(process.pid, within_s=30)
