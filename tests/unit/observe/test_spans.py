"""Spans in a process until its agent has them: bounded, numbered, told again until they have arrived."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from observe.regular_spans import RegularSpan, SpanShape
from observe.span_batch import SpanBatch, read, written
from observe.span_buffer import SpanBuffer
from observe.span_context import SAMPLED, SpanContext
from observe.spans import INTERNAL, OURS, PRODUCER, Event, Link, Scope, Span, how_it_ended


def span(number: int, end_ns: int = 0) -> Span:
    """A span that is known by its id."""
    return Span(f"s{number}", INTERNAL, SpanContext(1, number + 1, SAMPLED), None, 0, end_ns)


def ids(batch: SpanBatch) -> list[int]:
    """Whose spans these are."""
    found = [each for part in batch.parts for each in read(part)]
    assert len(found) == batch.end - batch.first
    return [each.context.span_id - 1 for each in found if isinstance(each, Span)]


def test_spans_stay_until_they_have_arrived() -> None:
    """The next batch begins where the last one that was taken ended; one not taken is told again, with what is new."""
    buffer = SpanBuffer(lambda: 0)
    for number in range(3):
        buffer.add(span(number))
    first = buffer.waiting()
    assert (first.first, ids(first)) == (0, [0, 1, 2])
    buffer.add(span(3))
    assert ids(buffer.waiting()) == [0, 1, 2, 3]
    buffer.taken(first)
    buffer.taken(first)
    rest = buffer.waiting()
    assert (rest.first, ids(rest)) == (3, [3])


def test_the_oldest_are_dropped_when_too_many_wait() -> None:
    """Their numbers are missing, so whoever takes the rest knows how many there were."""
    buffer = SpanBuffer(lambda: 0, most=2)
    before = buffer.waiting()
    for number in range(5):
        buffer.add(span(number))
    batch = buffer.waiting()
    assert (batch.first, ids(batch), buffer.dropped) == (3, [3, 4], 3)
    buffer.taken(before)  # late news of nothing
    assert ids(buffer.waiting()) == [3, 4]


def test_a_batch_that_was_overtaken_by_drops_takes_nothing_younger_away() -> None:
    """What has arrived may have been dropped meanwhile."""
    buffer = SpanBuffer(lambda: 0, most=2)
    buffer.add(span(0))
    batch = buffer.waiting()
    for number in range(1, 4):
        buffer.add(span(number))
    buffer.taken(batch)
    assert ids(buffer.waiting()) == [2, 3]


def test_what_has_waited_too_long_is_dropped() -> None:
    """By when it ended, with those that were told together with it: by when the last of these did."""
    now = [0]
    buffer = SpanBuffer(lambda: now[0], oldest_ns=10)
    buffer.add(span(0, end_ns=0))
    buffer.settle()
    buffer.add(span(1, end_ns=0))
    buffer.add(span(2, end_ns=5))
    now[0] = 11
    assert (ids(buffer.waiting()), buffer.dropped) == ([1, 2], 1)
    now[0] = 16
    assert (ids(buffer.waiting()), buffer.dropped) == ([], 3)


def test_a_span_that_cannot_be_told_costs_neither_its_message_nor_its_neighbours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A name that cannot be pickled, or what fails while it tells: each is left out, and logged once."""

    class Failing:
        def told(self, zero_ns: int) -> list[Span | RegularSpan]:
            raise ValueError("as it was made")

    buffer = SpanBuffer(lambda: 0)
    unnameable: Any = lambda: None  # noqa: E731  # what pickle refuses
    for number in range(100):  # more than are told together, so some are told on this thread
        buffer.add(span(number))
    buffer.add(span(100)._replace(name=unnameable))
    buffer.add(Failing())
    for number in range(101, 200):
        buffer.add(span(number))
    assert ids(buffer.waiting()) == [number for number in range(200) if number != 100]
    assert buffer.added == 199
    assert [record.getMessage() for record in caplog.records] == [
        "a span cannot be told, and is left out"
    ] * 2


def test_threads_lose_none() -> None:
    """Every span that is added is told once, whoever adds and takes."""
    buffer = SpanBuffer(lambda: 0, most=100_000)
    done = threading.Event()
    taken: list[int] = []

    def take() -> None:
        while True:
            last = done.is_set()
            batch = buffer.waiting()
            buffer.taken(batch)
            taken.extend(ids(batch))
            if last:
                return

    taker = threading.Thread(target=take)
    taker.start()

    def add(base: int) -> None:
        for number in range(base, base + 2000):
            buffer.add(span(number))

    adders = [threading.Thread(target=add, args=(base,)) for base in (0, 2000, 4000)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    done.set()
    taker.join()
    assert sorted(taken) == list(range(6000))


def test_a_batch_travels() -> None:
    """With all that its spans have, also by a pickler with hooks as Ray's."""
    whole = span(3)._replace(
        parent=SpanContext(1, 9, SAMPLED, "a=1"),
        attributes={"text": "x", "list": ("a", "b")},
        ok=False,
        says="why",
        links=(Link(SpanContext(2, 3, SAMPLED), {"n": 1}),),
        events=(Event("began", 5, {"n": 2}),),
        scope=Scope("mine", "2.0", None, {"k": "v"}),
        remote=True,
    )
    batch = SpanBatch(3, (written([whole, span(4)]),))
    for dumps in (pickle.dumps, cloudpickle.dumps):
        there = pickle.loads(dumps(batch))
        assert there == batch and type(there) is SpanBatch
        first, second = read(there.parts[0])
        assert isinstance(first, Span) and isinstance(second, Span)
        assert (first, second) == (whole, span(4)) and second.scope is OURS
        assert [type(part) for part in first] == [type(part) for part in whole]
    assert pickle.loads(pickle.dumps(SpanBatch())) == SpanBatch()


def test_a_regular_span_travels_as_its_shape_and_what_is_its_own() -> None:
    """Many of a shape tell it once; the reader makes the same span of each as if it had told all of itself."""
    shape = SpanShape("send X.m", PRODUCER, {"cluster.method": "m"}, ("id", "runner"), "began", remote=True)
    begins: RegularSpan = (shape, 1, 0, SAMPLED, "a=1", 7, 10, 20, ("x", None), 0)
    goes_on: RegularSpan = (shape, 1, 6, SAMPLED, "", 8, 11, 21, ("y", "r"), 15)
    first, second = read(written([begins, goes_on]))
    context = SpanContext(1, 7, SAMPLED, "a=1")
    assert first == Span(
        "send X.m", PRODUCER, context, None, 10, 20, {"cluster.method": "m", "id": "x"}, remote=True
    )
    assert second == Span(
        "send X.m",
        PRODUCER,
        SpanContext(1, 8, SAMPLED),
        SpanContext(1, 6, SAMPLED),
        11,
        21,
        {"cluster.method": "m", "id": "y", "runner": "r"},
        events=(Event("began", 15),),
        remote=True,
    )
    more = len(written([begins] * 100).data) - len(written([begins] * 99).data)
    assert more < len(written([begins]).data) / 2


def test_how_a_span_ended_has_the_label_of_metrics() -> None:
    """`error.type` is a reason; a long text is cut."""
    assert how_it_ended(None) == ({"cluster.outcome": "ok"}, None, "")
    attributes, ok, says = how_it_ended(TimeoutError("x" * 1000))
    assert attributes == {"cluster.outcome": "error", "error.type": "Timeout"} and ok is False
    assert says == "x" * 500
