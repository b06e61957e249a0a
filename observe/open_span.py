"""A span that goes on: to user code the current span of OpenTelemetry, at its end one of ours.

Decides what user code may add to a span of ours by ``get_current_span()``: attributes, events, links, a status and a
name. When it ends is its owner's business, not the user's.
"""

from __future__ import annotations

import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Status, StatusCode

from observe import sampling
from observe.regular_spans import RegularSpan, SpanShape, whole
from observe.span_context import SpanContext, new_span_id
from observe.spans import Event, Link, Span, how_it_ended, plain
from observe.traces import Traces

__all__ = ["OpenSpan", "from_api"]

# The one key of a context with nothing but a current span: made by hand it is a dict, not four calls.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, current.Context())
_variable = sampling.context_variable()
_attach: Callable[[current.Context], object] = current.attach if _variable is None else _variable.set
_WELL = how_it_ended(None)
_NO_END: tuple[Mapping[str, str], bool | None, str] = ({}, None, "")
_MOST = 128  # attributes, events or links of one span, as in the SDK; the youngest are left out


class OpenSpan(trace.Span):
    """One span of ours from its start to its end. Its owner is a class derived from it: one object for both.

    :ivar _event_s: when the event of its shape happened, by its owner's clock.
    """

    # Most spans have none of these. What is kept for a while is to be few objects, for the garbage collector's sake.
    _regular = True
    _event_s: float | None = None
    _fate: tuple[Mapping[str, str], bool | None, str] = _WELL
    _exception: Mapping[str, str] | None = None
    _renamed: str | None = None
    _added: BoundedAttributes | None = None
    _status: Status | None = None
    _events: tuple[Event | tuple[str, float], ...] = ()
    _links: tuple[Link, ...] = ()
    _ended = False
    _end_s = 0.0

    def __init__(self, traces: Traces, parent: SpanContext, start_s: float) -> None:
        self._traces = traces
        self._parent = parent
        self._span_id = new_span_id()
        self._start_s = start_s

    @property
    def context(self) -> SpanContext:
        """Which span it is."""
        return self._parent.beside(self._span_id)

    # -- its owner's

    @abstractmethod
    def described(self) -> tuple[SpanShape, tuple[Any, ...]]:
        """What it has in common with others that ended well, and its values; asked for once, when it has ended."""

    def happened(self, name: str, at_s: float) -> None:
        """Something happened during it, at a time of its owner's clock."""
        self._regular = False
        self._events += ((name, at_s),)

    @contextmanager
    def being_current(self) -> Iterator[None]:
        """Let it be the current span for a while."""
        token = current.attach(trace.set_span_in_context(self))
        try:
            yield
        finally:
            current.detach(token)

    def become_current(self) -> None:
        """Let it be the current span of this context for good: the context is its handler's own, with nothing in it."""
        _attach(current.Context({_SPAN_KEY: self}))

    def close(self, end_s: float, error: BaseException | None, *, settled: bool = True) -> None:
        """It has ended, at a time of its owner's clock; a second call does nothing.

        :param settled: whether that is an outcome at all; what goes on elsewhere has none here.
        """
        if self._ended:
            return
        self._ended = True
        self._end_s = end_s
        if error is not None:
            self._regular = False
            self._fate, self._exception = how_it_ended(error), _exception(error)
        elif not settled:
            self._regular = False
            self._fate = _NO_END
        self._traces.spans.add(self)

    def told(self, zero_ns: int) -> tuple[Span | RegularSpan]:
        """The span, once it has ended; see `Untold`."""
        start_ns = zero_ns + round(self._start_s * 1e9)
        shape, values = self.described()
        event_s, lasted_s = self._event_s, self._end_s - self._start_s
        trace_id, parent_id, flags, state = self._parent
        regular: RegularSpan = (
            shape,
            trace_id,
            parent_id,
            flags,
            state,
            self._span_id,
            start_ns,
            start_ns + max(0, round(lasted_s * 1e9)),
            values,
            0 if event_s is None else zero_ns + round(event_s * 1e9),
        )
        return (regular if self._regular else self._adorned(whole(regular), zero_ns),)

    def _adorned(self, span: Span, zero_ns: int) -> Span:
        ended, ok, says = self._fate
        if ok is None and self._status is not None:
            ok = {StatusCode.OK: True, StatusCode.ERROR: False}.get(self._status.status_code)
            says = self._status.description or ""
        attributes = {key: value for key, value in span.attributes.items() if key not in _WELL[0]}
        if self._added is not None:
            attributes.update(plain(self._added))
        attributes.update(ended)
        events = [
            one if isinstance(one, Event) else Event(one[0], zero_ns + round(one[1] * 1e9))
            for one in self._events
        ]
        if self._exception is not None:
            events.append(Event("exception", span.end_ns, self._exception))
        return span._replace(
            name=self._renamed or span.name,
            attributes=attributes,
            ok=ok,
            says=says,
            links=self._links,
            events=(*span.events, *events),
        )

    # -- the user's

    def get_span_context(self) -> trace.SpanContext:
        """See OpenTelemetry, as for all that follows."""
        mine = self.context
        state = trace.TraceState.from_header([mine.state]) if mine.state else None
        return trace.SpanContext(mine.trace_id, mine.span_id, False, trace.TraceFlags(mine.flags), state)

    def is_recording(self) -> bool:
        """Until it ends."""
        return not self._ended

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: it ends with its handler."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Add one to the span."""
        if not self._ended:
            self._regular = False
            if self._added is None:
                self._added = _bounded({})
            self._added[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add some to the span."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add one to the span, at a Unix time in nanoseconds; now if left out."""
        if not self._ended and len(self._events) < _MOST:
            self._regular = False
            at_ns = self._traces.now_ns() if timestamp is None else timestamp
            self._events += (Event(name, at_ns, plain(_bounded(attributes))),)

    def add_link(self, context: trace.SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Add one to the span."""
        if not self._ended and len(self._links) < _MOST:
            self._regular = False
            self._links += (Link(from_api(context), plain(_bounded(attributes))),)

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if not self._ended:
            self._regular = False
            self._renamed = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it ended; an error that its handler raises says more."""
        if not self._ended:
            self._regular = False
            self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an error to the span that it survives."""
        self.add_event("exception", {**_exception(exception), **(attributes or {})}, timestamp)


def from_api(context: trace.SpanContext) -> SpanContext:
    """OpenTelemetry's own form of a context as ours."""
    state = context.trace_state.to_header() if context.trace_state else ""
    return SpanContext(context.trace_id, context.span_id, int(context.trace_flags), state)


def _bounded(attributes: Mapping[str, Any] | None) -> BoundedAttributes:
    return BoundedAttributes(_MOST, dict(attributes or {}), immutable=False)


def _exception(error: BaseException) -> dict[str, str]:
    """An error as the conventions tell it: what was raised, not what it was wrapped in on its way."""
    told = getattr(error, "traceback_text", "")
    if told and error.__cause__ is not None:
        error = error.__cause__
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception as raised:  # its own __str__ is a stranger's code
        text = f"its text cannot be had: {type(raised).__name__}"
    return {
        "exception.type": name,
        "exception.message": text,
        "exception.stacktrace": told or "".join(traceback.format_exception(error)),
    }
