"""Which messages begin a trace: by the standard variables, and as the SDK's samplers would decide on the same id."""

from __future__ import annotations

import contextvars
import itertools
import logging
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

from observe import sampling
from observe.span_context import RANDOM, SAMPLED

SAMPLERS: dict[str, Sampler] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased(0.25),
    "parentbased_always_on": ParentBased(ALWAYS_ON),
    "parentbased_always_off": ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": ParentBasedTraceIdRatio(0.25),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Each test reads variables of its own."""
    yield
    sampling.begin(anew=True)


def begin(**environ: str) -> None:
    """Read these variables and no others."""
    sampling.begin(environ, anew=True)


@pytest.mark.parametrize("name", SAMPLERS)
def test_first_spans_are_those_that_the_sdk_would_keep(name: str) -> None:
    """Of 2,000 decisions, each kept trace has an id that the SDK's sampler keeps, and about as many are kept."""
    begin(OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG="0.25")
    kept = 0
    for _ in range(2000):
        root = sampling.first(inside=False)
        if root is None:
            continue
        kept += 1
        assert root.span_id == 0 and root.flags == SAMPLED | RANDOM
        assert SAMPLERS[name].should_sample(None, root.trace_id, "m").decision is Decision.RECORD_AND_SAMPLE
    expected = {"on": 2000, "off": 0}.get(name.rpartition("_")[2])
    assert kept == expected if expected is not None else 350 < kept < 650  # ten standard deviations


def test_a_sender_draws_each_message_with_the_same_chance() -> None:
    """However its messages are split: about a quarter, at each place, and after one that is kept as after others."""
    begin(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25")
    draw, kept, sent = sampling.Draw(), set[int](), 0
    for size in itertools.islice(itertools.cycle([1, 0, 7, 500, 2, 1000]), 800):
        kept |= {sent + position for position in draw.among(size)}
        sent += size
    assert max(kept) < sent
    following = sum(position + 1 in kept for position in kept)
    for count, of in (
        (len(kept), sent),
        (following, len(kept)),
        (len([p for p in kept if p % 2]), sent // 2),
    ):
        assert abs(count - of / 4) < 6 * math.sqrt(of * 3 / 16)


def test_a_sender_draws_anew_when_the_variables_are_read_anew() -> None:
    """What was drawn for a small chance would keep the next ones out."""
    begin(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.0000000001")
    draw = sampling.Draw()
    assert draw.among(1000) == []
    begin(OTEL_TRACES_SAMPLER="always_on")
    assert draw.among(3) == [0, 1, 2] and draw.among(2) == [0, 1] and draw.among(0) == []


@given(st.sampled_from(sorted(SAMPLERS)), st.integers(1, 2**128 - 1), st.booleans())
def test_later_spans_are_those_that_the_sdk_would_keep(name: str, trace_id: int, sampled: bool) -> None:
    """With a parent: by the parent, or by the trace's id."""
    begin(OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG="0.25")
    own = trace.SpanContext(trace_id, 1, is_remote=False, trace_flags=trace.TraceFlags(int(sampled)))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(own), context.Context())
    found = sampling.parent(parent, inside=False)
    kept = SAMPLERS[name].should_sample(parent, trace_id, "m").decision is Decision.RECORD_AND_SAMPLE
    assert (found is not None) is kept
    if found is not None:
        assert (found.trace_id, found.span_id, found.sampled) == (trace_id, 1, True)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_traces_begin_where_a_variable_is_about_them(environ: dict[str, str], wanted: bool) -> None:
    """Not for the endpoint alone that metrics share; the default sampler then keeps all."""
    begin(**environ)
    assert sampling.traces_wanted(environ) is wanted
    assert sampling.chance == float(wanted)
    assert (sampling.first(inside=False) is not None) is wanted
    assert not sampling.look()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "a tenth"},
    ],
)
def test_a_sampler_that_cannot_be_used_keeps_nothing(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Everything would be a surprise. One line names the variable and what it may be; a parent is honoured."""
    with caplog.at_level(logging.ERROR):
        begin(**environ)
    assert sampling.chance == 0.0 and sampling.first(inside=False) is None
    (line,) = [record.getMessage() for record in caplog.records]
    name, value = list(environ.items())[-1]
    assert name in line and value in line
    own = trace.SpanContext(7, 1, is_remote=False, trace_flags=trace.TraceFlags(1))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(own), context.Context())
    assert sampling.parent(parent, inside=True) is not None


def test_the_current_span_is_found_wherever_it_was_made() -> None:
    """By the SDK's tracers, in this context and in a copy of it; not in another."""
    begin()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("outer") as span:
        copied = contextvars.copy_context()
        found = sampling.parent(sampling.look(), inside=False)
        assert found is not None and found.span_id == span.get_span_context().span_id
    assert not sampling.look()
    assert copied.run(sampling.look)


def test_inside_a_handler_no_trace_begins() -> None:
    """What its message was decided to be holds for all that it causes."""
    begin(OTEL_TRACES_SAMPLER="always_on")
    assert sampling.first(inside=True) is None


def test_variables_are_read_once() -> None:
    """Who begins later finds what is there."""
    begin(OTEL_TRACES_SAMPLER="always_on")
    sampling.begin({"OTEL_SDK_DISABLED": "true"})
    assert sampling.chance == 1.0 and not sampling.is_off()
    begin(OTEL_TRACES_SAMPLER="always_on", OTEL_SDK_DISABLED="true")
    assert sampling.is_off() and sampling.chance == 0.0


def test_a_context_of_another_kind_is_asked_by_the_public_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the current context is in no context variable, OpenTelemetry's own way to it is taken."""

    class Elsewhere:
        def get_current(self) -> context.Context:
            return trace.set_span_in_context(
                trace.NonRecordingSpan(
                    trace.SpanContext(9, 1, is_remote=False, trace_flags=trace.TraceFlags(1))
                ),
                context.Context(),
            )

    monkeypatch.setattr(context, "_RUNTIME_CONTEXT", Elsewhere())
    begin()
    found = sampling.parent(sampling.look(), inside=False)
    assert found is not None and found.trace_id == 9
