"""The loop that all sides of a pipelined comparison run. No Ray."""

from __future__ import annotations

import pytest

from cluster_app.bench.pipeline import WrongValue, pipelined


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


def test_the_cpu_time_of_those_who_were_asked_about_is_told() -> None:
    """From the first message to the last value, by the clock that was given."""
    readings = iter([2.0, 5.0])
    pace = pipelined(
        lambda number: number,
        lambda numbers: numbers,
        lambda number: number,
        messages=1_000,
        in_flight=10,
        cpu_clock=lambda: next(readings),
    )
    assert (pace.cpu_s, pace.cpu_us) == (3.0, 3_000.0)
