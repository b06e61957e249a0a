"""Frames and values on the wire: what goes in comes out, and what cannot travel fails alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_app.envelope import (
    AnswerFrame,
    Codec,
    Extras,
    MessageFrame,
    copied,
    read_answers,
    read_messages,
    write,
)
from entities.errors import HandlerError, MalformedMessage

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


class Handle:
    """What the transport carries beside the bytes."""

    def __reduce__(self) -> Any:
        raise AssertionError("it is not pickled")


@given(value=values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    """Packed alone, or copied within a process."""
    codec = Codec()
    assert codec.unpack(codec.pack(value)) == value
    assert copied(value, codec) == value


@given(arguments=st.lists(st.tuples(atoms, atoms), min_size=1, max_size=6), stream=st.integers(0, 5))
def test_frames_come_back_as_they_were(arguments: list[tuple[Any, ...]], stream: int) -> None:
    """Both kinds, with their extras."""
    count = len(arguments)
    frame = MessageFrame(
        3,
        17,
        2,
        [("T", "m")],
        bytes(count),
        ["x"] * count,
        list(arguments),
        30.0,
        {0: Extras(stream=stream)},
        {1: "00-..."},
    )
    back = read_messages(write(frame))
    assert back == frame and isinstance(back.extras[0], Extras)
    answers = AnswerFrame(1, 4, None, list(arguments), {}, {0: b"e"}, {0: True}, {})
    assert read_answers(write(answers)) == answers


def test_a_copy_shares_nothing_that_can_change() -> None:
    """What the receiver does to it the sender does not see."""
    value = {"a": [1]}
    copy = copied(value, Codec())
    copy["a"].append(2)
    assert value == {"a": [1]}


def test_attachments_travel_beside_the_bytes() -> None:
    """The very objects, wherever they were nested."""
    codec = Codec((Handle,))
    first, second = Handle(), Handle()
    packed = codec.pack([first, {"deep": second}])
    assert packed.attachments == (first, second)
    back = codec.unpack(packed)
    assert back[0] is first and back[1]["deep"] is second


def test_what_cannot_be_pickled_says_so() -> None:
    """The sender's side raises what pickle raised."""
    with pytest.raises(TypeError):
        Codec().pack(threading.Lock())


class NeedsTwo(Exception):
    """It pickles, and does not come back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def test_an_error_whose_cause_cannot_travel_arrives_without_it() -> None:
    """Its own class, data and text do."""
    for cause in (NeedsTwo(1, 2), ValueError(threading.Lock())):
        error = HandlerError("why", traceback_text="where", method="m")
        error.__cause__ = cause
        back = Codec().unpack(_packed(Codec().pack_error(error)))
        assert isinstance(back, HandlerError) and (back.detail, back.traceback_text) == ("why", "where")
        assert back.__cause__ is None


def test_an_error_that_can_travel_keeps_its_cause() -> None:
    """The original is the cause at the sender too."""
    error = MalformedMessage("why")
    error.__cause__ = ValueError("x")
    back = Codec().unpack(_packed(Codec().pack_error(error)))
    assert isinstance(back, MalformedMessage) and isinstance(back.__cause__, ValueError)


def test_a_strange_error_arrives_as_its_text() -> None:
    """As HandlerError."""
    back = Codec().unpack(_packed(Codec().pack_error(NeedsTwo(1, 2))))
    assert isinstance(back, HandlerError) and "NeedsTwo: 1 2" in str(back)


def _packed(data: bytes) -> Any:
    from cluster_app.envelope import Packed

    return Packed(data)
