"""Answer frames that overtake each other, at the sender's end of a lane."""

from __future__ import annotations

from itertools import permutations

import pytest

from cluster_app.envelope import AnswerFrame, write
from cluster_app.exchange import Parcel
from cluster_app.outbound_lane import OutboundLane


def answers(number: int) -> Parcel:
    """An answer frame with one value, its own number."""
    return Parcel(number, write(AnswerFrame(number, number, None, [number], {}, {}, {}, {})))


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_answer_frames_come_out_in_order_and_each_once(order: tuple[int, ...]) -> None:
    """Whatever order they arrive in, one by one and each twice: an early one waits, a repeated one is dropped."""
    lane = OutboundLane("sender", 0, "runner", max_messages=10, max_bytes=1000)
    out: list[int] = []
    for number in order:
        for _ in range(2):
            out += [frame.values[0] for frame, _ in lane.answered([answers(number)])]
            assert out == list(range(len(out)))
            assert lane.acknowledged == len(out)
    assert out == [0, 1, 2, 3]
