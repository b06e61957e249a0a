"""A span that goes on: what user code may do to it as the current span, and what it is when it ends."""

from __future__ import annotations

import enum
import pickle
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from entities.errors import HandlerError
from observe.open_span import OpenSpan
from observe.regular_spans import SpanShape
from observe.span_batch import read
from observe.span_context import SAMPLED, SpanContext
from observe.spans import CONSUMER, Event, Span
from observe.traces import Traces

PARENT = SpanContext(1, 2, SAMPLED, "a=1")


class Described(OpenSpan):
    """Says what it is."""

    def described(self) -> tuple[SpanShape, tuple[Any, ...]]:
        attributes = {"cluster.method": "m", "cluster.outcome": "ok"}
        return SpanShape("process X.m", CONSUMER, attributes, ("id", "first"), "began", remote=True), (
            "7",
            None,
        )

    def begin(self, at_s: float) -> None:
        """What may happen during each of its shape."""
        self._event_s = at_s


def opened(traces: Traces, start_s: float = 10.0) -> Described:
    """A span that has just begun."""
    return Described(traces, PARENT, start_s)


def stopped_clock() -> Traces:
    """Traces whose clock stands at 12 seconds."""
    return Traces(lambda at_s: round(at_s * 1e9), lambda: 12.0)


def ended(traces: Traces) -> Span:
    """The one span that has ended."""
    (part,) = traces.spans.waiting().parts
    (span,) = read(part)
    assert isinstance(span, Span)
    return span


def test_it_is_current_for_as_long_as_it_is_said() -> None:
    """With the ids and the state that its children need."""
    span = opened(stopped_clock())
    with span.being_current():
        assert trace.get_current_span() is span
        context = trace.get_current_span().get_span_context()
        assert context.is_valid and context.trace_flags.sampled and not context.is_remote
        assert (context.trace_id, context.trace_state.to_header()) == (1, "a=1")
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_one_that_nothing_was_added_to_says_what_all_of_its_shape_do() -> None:
    """Told in few words; and what is added to another changes nothing but that."""
    traces = stopped_clock()
    plain, other = opened(traces), opened(traces)
    for span in (plain, other):
        span.begin(11.0)
    other.set_attribute("gate", 7)
    for span in (plain, other):
        span.close(13.0, None)
    (part,) = traces.spans.waiting().parts
    regular, adorned = read(part)
    assert isinstance(regular, Span) and isinstance(adorned, Span)
    assert regular == Span(
        "process X.m",
        CONSUMER,
        plain.context,
        PARENT,
        10_000_000_000,
        13_000_000_000,
        {"cluster.method": "m", "cluster.outcome": "ok", "id": "7"},
        events=(Event("began", 11_000_000_000),),
        remote=True,
    )
    assert adorned == regular._replace(context=other.context, attributes={**regular.attributes, "gate": 7})
    assert type(pickle.loads(part.data)[0]) is tuple


def test_what_user_code_adds_is_on_it() -> None:
    """Attributes, events, links, a name and a status, cleaned as the SDK does; and it pickles."""
    traces = stopped_clock()
    span = opened(traces)
    span.set_attributes({"gate": 7, "codes": ["a", "b"]})
    span.set_attribute("cluster.method", "mine")
    span.add_event("boarded", {"seats": 3})
    span.add_event("left", timestamp=5)
    span.add_link(trace.SpanContext(8, 9, is_remote=True), {"why": "before"})
    span.update_name("boarding")
    span.set_status(StatusCode.ERROR, "half empty")
    span.end()  # it is not theirs to end
    assert span.is_recording()
    span.close(13.0, None)
    found = ended(traces)
    assert (found.name, found.parent, found.remote, found.kind) == ("boarding", PARENT, True, CONSUMER)
    assert (found.start_ns, found.end_ns) == (10_000_000_000, 13_000_000_000)
    assert found.attributes == {
        "id": "7",
        "cluster.method": "mine",
        "gate": 7,
        "codes": ("a", "b"),
        "cluster.outcome": "ok",
    }
    assert [(event.name, event.at_ns, event.attributes) for event in found.events] == [
        ("boarded", 12_000_000_000, {"seats": 3}),
        ("left", 5, {}),
    ]
    assert [(link.context[:2], link.attributes) for link in found.links] == [((8, 9), {"why": "before"})]
    assert (found.ok, found.says) == (False, "half empty")


def test_values_of_a_users_own_class_are_told_as_what_they_are() -> None:
    """A text that is an enum's member is that text: the agent, which reads it, has no such class."""

    class Gate(enum.StrEnum):
        NORTH = "n"

    traces = stopped_clock()
    span = opened(traces)
    span.set_attributes({"gate": Gate.NORTH, "gates": [Gate.NORTH]})
    span.add_event("boarded", {"gate": Gate.NORTH})
    span.close(13.0, None)
    assert b"Gate" not in traces.spans.waiting().parts[0].data
    found = ended(traces)
    assert (found.attributes["gate"], found.attributes["gates"]) == ("n", ("n",))
    assert found.events[0].attributes == {"gate": "n"}


def test_an_error_of_its_handler_says_more_than_a_status_that_was_set() -> None:
    """And what the handler raised is an event, with the traceback of where it was raised."""
    traces = stopped_clock()
    span = opened(traces)
    span.set_status(Status(StatusCode.OK))
    error = HandlerError("KeyError: 'gate'", traceback_text="Traceback: there")
    error.__cause__ = KeyError("gate")
    span.close(11.0, error)
    found = ended(traces)
    assert (found.ok, found.attributes["error.type"]) == (False, "HandlerError")
    (raised,) = found.events
    assert raised.attributes == {
        "exception.type": "KeyError",
        "exception.message": "'gate'",
        "exception.stacktrace": "Traceback: there",
    }


def test_an_error_that_user_code_survives_is_an_event() -> None:
    """Also one whose text cannot be had."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    traces = stopped_clock()
    span = opened(traces)
    span.record_exception(Mute(), {"try": 2})
    span.close(11.0, None)
    (event,) = ended(traces).events
    assert event.attributes["exception.message"] == "its text cannot be had: RuntimeError"
    assert event.attributes["exception.type"].endswith("Mute") and event.attributes["try"] == 2


def test_nothing_changes_it_once_it_has_ended() -> None:
    """It ends once; what comes late from a task that goes on is left out."""
    traces = stopped_clock()
    span = opened(traces)
    span.close(11.0, None)
    before = ended(traces)
    span.close(20.0, ValueError("late"))
    span.set_attribute("late", True)
    span.add_event("late")
    span.add_link(trace.SpanContext(8, 9, is_remote=True))
    span.update_name("late")
    span.set_status(StatusCode.ERROR, "late")
    assert not span.is_recording() and ended(traces) == before


def test_what_goes_on_elsewhere_has_no_outcome() -> None:
    """Neither well nor with an error."""
    traces = stopped_clock()
    span = opened(traces)
    span.close(11.0, None, settled=False)
    assert "cluster.outcome" not in ended(traces).attributes and ended(traces).ok is None


def test_user_code_cannot_make_it_grow_without_bound() -> None:
    """As many attributes, events and links as the SDK keeps."""
    traces = stopped_clock()
    span = opened(traces)
    for number in range(500):
        span.set_attribute(f"a{number}", number)
        span.add_event(f"e{number}")
        span.add_link(trace.SpanContext(8, number + 1, is_remote=True))
    span.close(11.0, None)
    found = ended(traces)
    assert len(found.attributes) == 128 + 3 and len(found.events) == 128 and len(found.links) == 128
