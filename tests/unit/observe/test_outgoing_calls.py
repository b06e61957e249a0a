"""Calls followed to their end, with answers that the test gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from observe.message_cells import message_cells
from observe.metrics import MetricsSnapshot
from observe.outgoing_calls import CallTally, OutgoingCall, Suspicion
from observe.recorder import process_recorder
from observe.totals import subtract


class Answer:
    """Stands for a reference to an answer."""


class GivenAnswers:
    """Answers that are there when the test says so; it tells of them only if it is asked to."""

    def __init__(self) -> None:
        self.watching: dict[Any, Callable[[object], None]] = {}
        self.there: set[Any] = set()
        self.suspicions: dict[Any, Suspicion] = {}

    def watch(self, reference: Any, told: Callable[[object], None]) -> None:
        self.watching[reference] = told

    def look(self, references: Sequence[Any]) -> list[Suspicion | None]:
        return [self.suspicions.get(reference) for reference in references]

    def look_safely(self, references: Sequence[Any]) -> list[Suspicion | None]:
        return self.look(references)

    def tell_arrived(self, waiting: Mapping[Any, Callable[[], None]]) -> None:
        for reference in self.there & set(waiting):
            waiting[reference]()

    def come(self, reference: Any, error: BaseException | None = None, *, problem: object = None) -> None:
        """The answer is there, and whoever watches is told."""
        self.arrive(reference, error)
        self.watching[reference](problem)

    def arrive(self, reference: Any, error: BaseException | None = None) -> None:
        """The answer is there, and nobody has been told yet."""
        self.there.add(reference)
        if error is not None:
            self.suspicions[reference] = lambda: error


class Calls:
    """A tally of the test's own, and what it has counted."""

    def __init__(self, entity_type: str, clock: Callable[[], float]) -> None:
        self.answers = GivenAnswers()
        self.of = {"entity_type": entity_type, "operation": "send"}
        self.tally = CallTally(message_cells("send", entity_type), self.answers)
        self._clock = clock
        self._before = process_recorder().totals()

    def send(self, *, unwanted: bool = False) -> Answer:
        self.tally.begin()
        answer = Answer()
        self.tally.watch(OutgoingCall(self.tally, self._clock(), answer, unwanted))
        return answer

    def counted(self) -> tuple[float, float, dict[str, float], float]:
        """Sent, ended well, errors by type, and the sum of latencies in seconds."""
        now = MetricsSnapshot(subtract(process_recorder().totals(), self._before))
        latency = "cluster_message_latency_seconds"
        errors = {
            point.labels["type"]: point.value
            for point in now
            if point.name == "cluster_errors_total"
            and point.labels["entity_type"] == self.of["entity_type"]
            and point.value
        }
        assert sum(errors.values()) == now.value(latency, **self.of, outcome="error")
        return (
            now.value("cluster_messages_sent_total", **self.of),
            now.value(latency, **self.of, outcome="ok"),
            errors,
            now.histogram(latency, **self.of).sum,
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], float]:
    """A clock that moves only when told to; returns its reading."""
    reading = [100.0]

    def advance(seconds: float = 0.0) -> float:
        reading[0] += seconds
        return reading[0]

    monkeypatch.setattr(time, "perf_counter", lambda: reading[0])
    return advance


@pytest.fixture
def calls(request: pytest.FixtureRequest, clock: Callable[..., float]) -> Iterator[Calls]:
    """A tally, read whenever metrics are."""
    made = Calls(request.node.name[:100], clock)
    late = process_recorder()._late
    late.append(made.tally.settle)
    yield made
    late.remove(made.tally.settle)


def test_a_call_is_sent_at_once_and_ends_with_its_answer(calls: Calls, clock: Callable[..., float]) -> None:
    """In between it is in flight: neither well nor ill."""
    answer = calls.send()
    assert calls.counted() == (1, 0, {}, 0.0)
    clock(0.25)
    calls.answers.come(answer)
    clock(5.0)
    assert calls.counted() == (1, 1, {}, 0.25)
    assert calls.tally.in_flight == {}


def test_an_error_is_counted_by_its_type(calls: Calls, clock: Callable[..., float]) -> None:
    """Once, with the latency up to its answer."""
    answer = calls.send()
    clock(0.5)
    calls.answers.come(answer, ConnectionError())
    calls.answers.watching[answer](None)
    assert calls.counted() == (1, 0, {"RunnerUnavailable": 1}, 0.5)


def test_a_reading_sees_answers_that_nobody_has_told_of(calls: Calls) -> None:
    """Whoever has got his answers finds them counted; being told of them later changes nothing."""
    first, second, third = calls.send(), calls.send(), calls.send()
    calls.answers.arrive(first)
    calls.answers.arrive(second, TimeoutError())
    assert calls.counted()[:3] == (3, 1, {"Timeout": 1})
    for answer in (first, second, third):
        calls.answers.come(answer)
    assert calls.counted()[:3] == (3, 2, {"Timeout": 1})


def test_an_answer_that_will_never_come_is_an_error(calls: Calls) -> None:
    """Whatever it is that Ray says."""
    calls.answers.come(calls.send(), problem=ConnectionError())
    calls.answers.come(calls.send(), problem="shut down")
    assert calls.counted()[:3] == (2, 0, {"RunnerUnavailable": 2})


def test_an_error_that_cannot_be_decoded_is_one_all_the_same(calls: Calls) -> None:
    """What decoding it raised is counted, as its caller sees it."""

    def undecodable() -> BaseException:
        raise ModuleNotFoundError("a module of the actor's")

    answer = calls.send()
    calls.answers.suspicions[answer] = undecodable
    calls.answers.come(answer)
    assert calls.counted()[:3] == (1, 0, {"Unknown": 1})


def test_a_look_that_fails_ends_the_call(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose answer is there does not stay in flight for ever."""
    answer = calls.send()
    calls.send()  # or the first would be the last one in flight, which is looked at on the spot

    def broken(references: Sequence[Any]) -> list[Suspicion | None]:
        raise AttributeError("another Ray")

    monkeypatch.setattr(calls.answers, "look", broken)
    calls.answers.come(answer)
    assert calls.counted()[:3] == (2, 0, {"Unknown": 1})


def test_a_suspicion_may_be_unfounded(calls: Calls) -> None:
    """A large answer has to be looked at, and is a value."""
    answer = calls.send()
    calls.answers.suspicions[answer] = lambda: None
    calls.answers.come(answer)
    assert calls.counted()[:3] == (1, 1, {})


def test_a_value_nobody_wants_need_not_be_returnable(calls: Calls) -> None:
    """The method has run; but an error of it is one."""
    calls.answers.come(calls.send(unwanted=True), _CannotReturn())
    calls.answers.come(calls.send(unwanted=True), ConnectionError())
    calls.answers.come(calls.send(), _CannotReturn())
    assert calls.counted()[:3] == (3, 1, {"RunnerUnavailable": 1, "MalformedMessage": 1})


class _CannotReturn(Exception):
    reason = "MalformedMessage"
    may_have_run = True


def test_a_call_that_was_refused_is_sent_and_has_ended(calls: Calls) -> None:
    """So that what is sent is what has ended and what is in flight, always."""
    calls.tally.begin()
    calls.tally.refused(0.125, TypeError("cannot pickle '_thread.lock' object"))
    assert calls.counted() == (1, 0, {"MalformedMessage": 1}, 0.125)


def test_a_call_that_cannot_be_followed_reaches_its_caller(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics never break a call: it stays sent, and that is logged."""

    def broken(reference: Any, told: Callable[[object], None]) -> None:
        raise AttributeError("another Ray")

    monkeypatch.setattr(calls.tally, "_watch", broken)
    calls.send()
    assert calls.counted()[:3] == (1, 0, {})
    assert "not followed to its end" in caplog.text


def test_many_calls_are_recorded_without_a_reading(calls: Calls) -> None:
    """What has ended waits in a list; a later call empties it, so it does not grow without end."""
    for _ in range(2000):
        calls.answers.come(calls.send())
    assert len(calls.tally._ended) <= 64
    assert calls.counted()[:2] == (2000, 2000)


def test_the_last_call_in_flight_is_looked_at_on_the_spot(calls: Calls) -> None:
    """A program that has all its answers may end Ray at once: nobody can look any more."""
    answers = [calls.send() for _ in range(3)]
    for answer in answers[:2]:
        calls.answers.come(answer, LookupError())
    assert [call.reference for call in calls.tally._ended] == answers[:2]
    calls.answers.come(answers[2])
    assert [call.reference for call in calls.tally._ended] == [None, None, None]
    calls.answers.suspicions.clear()
    assert calls.counted()[:3] == (3, 1, {"Unknown": 2})


def test_errors_are_looked_at_on_a_thread_of_their_own(calls: Calls, clock: Callable[..., float]) -> None:
    """Not on the one that tells of answers: decoding one runs the user's code. And soon, without a reading."""
    from observe import outgoing_calls

    looked = threading.Event()
    names: list[str] = []

    def decode() -> BaseException:
        names.append(threading.current_thread().name)
        looked.set()
        return LookupError()

    # The thread is there from the first handle on.
    outgoing_calls.call_tally("started for its thread", calls.answers)
    answer = calls.send()
    calls.answers.suspicions[answer] = decode
    calls.answers.come(answer)
    assert looked.wait(10)
    assert names == ["observe-calls"]
    assert calls.counted()[:3] == (1, 0, {"Unknown": 1})


def test_two_threads_that_tell_of_one_answer_count_it_once(calls: Calls) -> None:
    """Ray's thread and a reading may come at the same moment."""
    answers = [calls.send() for _ in range(300)]
    ready = threading.Barrier(3)

    def tell() -> None:
        ready.wait()
        for answer in answers:
            calls.answers.watching[answer](None)

    threads = [threading.Thread(target=tell) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.counted()[:3] == (300, 300, {})


def test_the_tally_of_a_type_is_one_for_the_process(calls: Calls) -> None:
    """However many handles there are."""
    from observe.outgoing_calls import call_tally

    assert call_tally("one tally", calls.answers) is call_tally("one tally", calls.answers)
