"""The sender's end of a lane: answer frames that overtake each other, and how large a frame gets."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from cluster_app.envelope import AnswerFrame, Packed, write
from cluster_app.exchange import Parcel
from cluster_app.outbound_lane import OutboundLane
from entities.response import EntityResponse


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


class Kind:
    """What is counted together."""

    names = ("Type", "method")
    trace = None

    @property
    def real(self) -> Kind:
        return self


def queued(lane: OutboundLane, contents: list[Packed]) -> list[int]:
    """How many messages each frame takes when these wait."""
    route = SimpleNamespace(kind=Kind(), entity_id="a", slot=SimpleNamespace(stream=0))
    for content in contents:
        message: EntityResponse[Any] = EntityResponse(route, content, 0.0)
        lane.queue.append(message)
    counts = []
    while made := lane.frame(0.0, 30.0, 1):
        parcel, count = made
        counts.append(count)
        assert len(parcel.data) < 2_500  # what is counted is what travels
    return counts


def test_arguments_that_messages_share_are_held_once_by_a_frame() -> None:
    """A broadcast's parts go together, however large their argument; messages with arguments of their own do not."""
    shared, own = Packed(bytes(600)), [Packed(bytes(600)) for _ in range(4)]
    assert queued(OutboundLane("s", 0, "r", max_messages=100, max_bytes=1_000), [shared] * 10) == [10]
    assert queued(OutboundLane("s", 0, "r", max_messages=100, max_bytes=1_000), own) == [2, 2]
