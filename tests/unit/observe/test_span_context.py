"""The W3C trace context: what is written is read again, what is none is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observe.span_context import RANDOM, SAMPLED, SpanContext, new_span_id, read_context

contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.sampled_from([0, SAMPLED, SAMPLED | RANDOM]),
    st.sampled_from(["", "vendor=v1", "a=1,b=2"]),
)


@given(contexts)
def test_what_is_written_is_read_again(context: SpanContext) -> None:
    """Ids, flags and state."""
    assert read_context(context.write()) == context


@given(contexts)
def test_opentelemetry_reads_it_the_same(context: SpanContext) -> None:
    """Its own propagator finds the same ids and the same state in it."""
    parent, _, state = context.write().partition(" ")
    found = get_current_span(
        TraceContextTextMapPropagator().extract({"traceparent": parent, "tracestate": state})
    ).get_span_context()
    assert (found.trace_id, found.span_id, found.trace_flags) == context[:3]
    assert found.trace_state.to_header() == context.state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"ff-{'1' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}-01-more",
        f"00-{'G' * 32}-{'1' * 16}-01",
    ],
)
def test_what_is_no_context_is_none(text: str) -> None:
    """By the W3C's rules: no ids of zeros, no version ff, nothing behind version 00."""
    assert read_context(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """What stands behind the flags is for others."""
    found = read_context(f"01-{'1' * 32}-{'2' * 16}-01-more")
    assert found is not None and found.sampled


def test_a_child_is_another_span_of_the_same_trace() -> None:
    """Flags and state go on."""
    parent = SpanContext(1, 2, SAMPLED, "a=1")
    child = parent.child()
    assert child._replace(span_id=2) == parent and child.span_id not in (0, 2)
    assert len({new_span_id() for _ in range(1000)}) == 1000
