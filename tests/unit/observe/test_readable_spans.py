"""Our spans and the SDK's: each can be the other, and what is exported is what was recorded."""

from __future__ import annotations

import pickle

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from observe.readable_spans import readable, recorded
from observe.span_context import RANDOM, SAMPLED, SpanContext
from observe.spans import OURS, PRODUCER, Event, Link, Scope, Span

RESOURCE = Resource({"service.name": "there"})
CONTEXT = SpanContext(3, 4, SAMPLED | RANDOM, "a=1")
WHOLE = Span(
    "send X.m",
    PRODUCER,
    CONTEXT,
    SpanContext(3, 2, SAMPLED),
    100,
    200,
    {"text": "x", "number": 1, "flag": True, "list": ("a", "b")},
    False,
    "why",
    (Link(SpanContext(8, 9, SAMPLED), {"reason": "r"}),),
    (Event("began", 150, {"n": 2}),),
    Scope("mine", "2.0", "https://schema", {"k": "v"}),
    True,
)


class Kept(SpanProcessor):
    """Keeps what has ended, as ours."""

    def __init__(self) -> None:
        self.spans: list[Span | None] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(recorded(span))


def test_a_span_is_the_same_after_being_the_sdks() -> None:
    """Names, ids, times, attributes, status, links, events and scope; and it pickles."""
    there = recorded(readable(WHOLE, RESOURCE, "1.0"))
    assert there is not None
    links = tuple(link._replace(context=link.context._replace(state="")) for link in there.links)
    assert pickle.loads(pickle.dumps(there._replace(links=links))) == WHOLE


def test_it_is_encoded_with_all_it_has() -> None:
    """By the SDK's own encoder: as a collector gets it."""
    sent = encode_spans([readable(WHOLE, RESOURCE, "1.0")])
    (scope,) = sent.resource_spans[0].scope_spans
    (span,) = scope.spans
    assert sent.resource_spans[0].resource.attributes[0].value.string_value == "there"
    assert (scope.scope.name, scope.scope.version, scope.schema_url) == ("mine", "2.0", "https://schema")
    assert (int.from_bytes(span.trace_id), int.from_bytes(span.span_id)) == (3, 4)
    assert (int.from_bytes(span.parent_span_id), span.trace_state) == (2, "a=1")
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.kind) == (100, 200, 4)
    assert (span.status.code, span.status.message) == (2, "why")
    assert span.flags & 0x300 == 0x300  # it is known where the parent is, and that is elsewhere
    assert int.from_bytes(span.links[0].span_id) == 9 and span.events[0].time_unix_nano == 150


def test_our_own_scope_has_our_version() -> None:
    """The one of the agent that exports it."""
    (scope,) = (
        encode_spans([readable(WHOLE._replace(scope=OURS), RESOURCE, "7.1")]).resource_spans[0].scope_spans
    )
    assert (scope.scope.name, scope.scope.version) == ("cluster_app", "7.1")


def test_what_the_sdks_tracers_make_is_kept_whole() -> None:
    """Nested spans, an error that was raised in one, a link and the tracer's name."""
    kept = Kept()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("shop", "3.1")
    with (
        pytest.raises(ValueError, match="no"),
        tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer,
        tracer.start_as_current_span("inner", attributes={"n": 1}),
    ):
        raise ValueError("no")
    inner, whole = kept.spans
    assert inner is not None and whole is not None
    assert inner.parent is not None and inner.parent.span_id == whole.context.span_id
    assert whole.context.span_id == outer.get_span_context().span_id and whole.parent is None
    assert (inner.attributes, inner.ok, whole.kind) == ({"n": 1}, False, SpanKind.SERVER.value)
    assert inner.events[0].attributes["exception.type"] == "ValueError"
    assert (inner.scope.name, inner.scope.version) == ("shop", "3.1")
    assert pickle.loads(pickle.dumps(inner)) == inner
    again = readable(inner, RESOURCE, "1")
    assert again.status.status_code is StatusCode.ERROR


def test_what_is_not_sampled_is_not_kept() -> None:
    """Spans that are made but not sampled stay where they are."""
    kept = Kept()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(kept)
    with provider.get_tracer("t").start_as_current_span("x"):
        pass
    assert kept.spans == []
    unsampled = ReadableSpan("x", trace.SpanContext(1, 2, is_remote=False), start_time=1, end_time=2)
    assert recorded(unsampled) is None
