"""Spans of one process on their way to its node's agent.

Decides their form there: bytes, for the garbage collector has nothing to do with those, however many wait; and many in
one piece, of plain tuples, for to a pickler what is told again is next to nothing, and an object of a class of its own
is more than all the rest of a span.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from observe.regular_spans import RegularSpan, whole
from observe.span_context import SpanContext
from observe.spans import OURS, Event, Link, Scope, Span

__all__ = ["SpanBatch", "SpanPart", "read", "written"]

logger = logging.getLogger(__name__)


class SpanPart(NamedTuple):
    """Some spans, as they were `written`."""

    size: int
    data: bytes


class SpanBatch(NamedTuple):
    """Spans numbered without gaps over all batches: what is missing before `first` was dropped there."""

    first: int = 0
    parts: tuple[SpanPart, ...] = ()

    @property
    def end(self) -> int:
        """The number after the last of them."""
        return self.first + sum(part.size for part in self.parts)


def written(spans: Sequence[Span | RegularSpan]) -> SpanPart:
    """Spans as they wait and travel. One that is not regular is bytes by itself: a user's value on it, of a class that
    the reader does not know, is to keep no other span; one that cannot be pickled is left out, and logged.
    """
    rows: list[bytes | RegularSpan] = []
    for span in spans:
        try:
            rows.append(_alone(span) if isinstance(span, Span) else span)
        except Exception:
            logger.exception("a span cannot be told, and is left out")
    return SpanPart(len(rows), pickle.dumps(rows, protocol=5))


def read(part: SpanPart) -> Iterator[Span | Exception]:
    """What was `written`, in order; an error in place of a span that cannot be read. Raises if none can be."""
    for row in pickle.loads(part.data):
        if isinstance(row, bytes):
            try:
                yield _read_alone(row)
            except Exception as error:  # an attribute of a class that only its process knows, say
                yield error
        else:
            yield whole(row)


def _alone(span: Span) -> bytes:
    scope = None if span.scope is OURS else tuple(span.scope)
    parent = None if span.parent is None else tuple(span.parent)
    links = [(tuple(link.context), link.attributes) for link in span.links]
    events = [tuple(event) for event in span.events]
    changed = (tuple(span.context), parent, links, events, scope)
    return pickle.dumps((*span[:2], *span[4:9], span.remote, changed), protocol=5)


def _read_alone(data: bytes) -> Span:
    name, kind, start_ns, end_ns, attributes, ok, says, remote, changed = pickle.loads(data)
    context, parent, links, events, scope = changed
    return Span(
        name,
        kind,
        SpanContext(*context),
        None if parent is None else SpanContext(*parent),
        start_ns,
        end_ns,
        attributes,
        ok,
        says,
        tuple([Link(SpanContext(*its), mine) for its, mine in links]),
        tuple([Event(*event) for event in events]),
        OURS if scope is None else Scope(*scope),
        remote,
    )
