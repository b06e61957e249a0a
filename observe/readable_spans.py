"""Our spans and the SDK's, each as the other.

Decides nothing: the agent needs the SDK's to export, and a process needs ours of what the user's own tracers have made.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext as SdkContext
from opentelemetry.trace import SpanKind, Status, StatusCode, TraceFlags, TraceState

from observe.open_span import from_api
from observe.span_context import SpanContext
from observe.spans import OURS, Event, Link, Scope, Span, plain

__all__ = ["readable", "recorded"]

_STATUS = {None: StatusCode.UNSET, True: StatusCode.OK, False: StatusCode.ERROR}
_OK = {StatusCode.UNSET: None, StatusCode.OK: True, StatusCode.ERROR: False}


def readable(span: Span, resource: Resource, version: str) -> ReadableSpan:
    """A span of ours as the SDK's exporters take it.

    :param version: the one of our own scope.
    """
    scope = span.scope
    return ReadableSpan(
        span.name,
        _context(span.context, remote=False),
        None if span.parent is None else _context(span.parent, remote=span.remote),
        resource,
        span.attributes,
        [SdkEvent(event.name, event.attributes, event.at_ns) for event in span.events],
        [SdkLink(_context(link.context, remote=True), link.attributes) for link in span.links],
        SpanKind(span.kind),
        status=Status(_STATUS[span.ok], span.says or None if span.ok is False else None),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(
            scope.name,
            version if scope is OURS or scope == OURS else scope.version,
            scope.schema_url,
            scope.attributes,
        ),
    )


def recorded(span: ReadableSpan) -> Span | None:
    """A span of the SDK's as one of ours; None for one that is not to be kept."""
    context = span.get_span_context()
    if context is None or not context.trace_flags.sampled or span.start_time is None:
        return None
    parent = span.parent
    made_by = span.instrumentation_scope
    scope = Scope("")
    if made_by is not None:
        attributes = plain(made_by.attributes or {}) or None
        scope = Scope(made_by.name, made_by.version, made_by.schema_url, attributes)
    return Span(
        span.name,
        span.kind.value,
        from_api(context),
        None if parent is None else from_api(parent),
        span.start_time,
        span.end_time or span.start_time,
        plain(span.attributes or {}),
        _OK[span.status.status_code],
        span.status.description or "",
        tuple(Link(from_api(link.context), plain(link.attributes or {})) for link in span.links),
        tuple(Event(event.name, event.timestamp, plain(event.attributes or {})) for event in span.events),
        scope,
        parent is not None and parent.is_remote,
    )


def _context(context: SpanContext, *, remote: bool) -> SdkContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SdkContext(context.trace_id, context.span_id, remote, TraceFlags(context.flags), state)
