"""The pipelined comparison: the loop both sides run, and what is made of their figures. No Ray."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cluster_app.bench.child import ChildFailed, run_child
from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.pipelined import ENTITIES, RAW, compare


def test_every_message_is_sent_once_in_order_and_no_more_than_allowed_is_in_flight() -> None:
    """Both sides are held to the same number."""
    sent: list[int] = []
    open_now, most_open = 0, 0

    def send(number: int) -> int:
        nonlocal open_now, most_open
        sent.append(number)
        open_now += 1
        most_open = max(most_open, open_now)
        return number

    def values(numbers: list[int]) -> list[int]:
        nonlocal open_now
        open_now -= len(numbers)
        return [number * 2 for number in numbers]

    pace = pipelined(send, values, lambda number: number * 2, messages=101, in_flight=10)
    assert (sent, most_open, open_now, pace.messages) == (list(range(101)), 10, 0, 101)


@pytest.mark.parametrize("wrong", [7, 10.0, True, "10", None])
def test_one_wrong_value_ends_the_measurement(wrong: object) -> None:
    """A speed at which answers are wrong is none; what equals an int but is none is wrong as well."""

    def values(numbers: list[int]) -> list[object]:
        return [wrong if number == 5 else number * 2 for number in numbers]

    with pytest.raises(WrongValue, match="message 5"):
        pipelined(lambda number: number, values, lambda number: number * 2, messages=20, in_flight=4)


def test_a_reply_that_is_missing_ends_the_measurement() -> None:
    """As many values as messages, or there is no figure."""
    with pytest.raises(WrongValue, match="20 messages, but 19 values"):
        pipelined(
            lambda number: number,
            lambda numbers: [number for number in numbers if number != 19],
            lambda number: number,
            messages=20,
            in_flight=4,
        )


def test_rounds_alternate_and_all_are_told() -> None:
    """Who goes first changes from round to round; medians and their ratio are quoted."""
    order: list[str] = []
    speeds = {ENTITIES: iter([100_000, 300_000, 80_000]), RAW: iter([4_000, 5_000, 100])}

    def child(side: str, asked: Mapping[str, int]) -> Pace:
        order.append(side)
        return Pace(next(speeds[side]), 1.0)

    told: list[str] = []
    report = compare(rounds=3, messages=1, calls=1, entities=1, in_flight=1, told=told.append, child=child)
    assert order == [ENTITIES, RAW, RAW, ENTITIES, ENTITIES, RAW]
    assert len(told) == 6
    assert report.as_dict() == {
        "entities_per_s": [100_000.0, 300_000.0, 80_000.0],
        "raw_per_s": [4_000.0, 5_000.0, 100.0],
        "entities_median_per_s": 100_000.0,
        "raw_median_per_s": 4_000.0,
        "ratio": 25.0,
        "raw_is_fair": True,
        "asked": {"rounds": 3, "messages": 1, "calls": 1, "entities": 1, "in_flight": 1},
    }


def test_a_slowed_denominator_is_told() -> None:
    """A ratio against a peer slower than it is known to be says so."""
    report = compare(
        rounds=1,
        messages=1,
        calls=1,
        entities=1,
        in_flight=1,
        told=lambda line: None,
        child=lambda side, asked: Pace(1_000, 1.0),
    )
    assert report.raw_is_fair is False


def test_a_child_that_fails_is_told_with_its_last_word() -> None:
    """And how to run it alone."""
    with pytest.raises(ChildFailed, match="No module named") as caught:
        run_child("cluster_app.bench.no_such_side", {"messages": 1})
    assert "python -m cluster_app.bench.no_such_side" in caught.value.hint
