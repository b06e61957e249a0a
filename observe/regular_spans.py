"""Regular spans: on them stands nothing but what stands on all of their shape, and nearly all of ours are such.

Decides how one is told in few words. Its process makes no attributes of it: who reads it does (`whole`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from observe.span_context import SpanContext
from observe.spans import Event, Span

__all__ = ["RegularSpan", "SpanShape", "whole"]


class SpanShape(NamedTuple):
    """What some spans have in common.

    :ivar kind: a value of OpenTelemetry's SpanKind.
    :ivar attributes: those that are alike on all of them.
    :ivar keys: of those attributes that each has a value of its own for, or none.
    :ivar event: what may happen once during each.
    :ivar remote: their parents are another process's.
    """

    name: str
    kind: int
    attributes: Mapping[str, Any]
    keys: tuple[str, ...] = ()
    event: str = ""
    remote: bool = False


# A plain tuple, for it is pickled: each object of a class of its own costs a pickler more than all the rest of it.
RegularSpan: TypeAlias = tuple[SpanShape, int, int, int, str, int, int, int, tuple[Any, ...], int]
"""A span's shape, then its parent as in `SpanContext` (with `span_id` 0 if it is the first of its trace), its own span
id, its start and its end in nanoseconds of Unix time, its values for the keys (None where it has none), and when the
event happened, or 0.
"""


def whole(regular: RegularSpan) -> Span:
    """The span with all that it says."""
    shape, trace_id, parent_id, flags, state, span_id, start_ns, end_ns, values, event_ns = regular
    attributes = dict(shape.attributes)
    attributes.update(pair for pair in zip(shape.keys, values, strict=True) if pair[1] is not None)
    return Span(
        shape.name,
        shape.kind,
        SpanContext(trace_id, span_id, flags, state),
        SpanContext(trace_id, parent_id, flags, state) if parent_id else None,
        start_ns,
        end_ns,
        attributes,
        events=(Event(shape.event, event_ns),) if event_ns else (),
        remote=shape.remote,
    )
