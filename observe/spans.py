"""A span that has ended, as it is on its way to its node's agent.

Decides what it says. Knows no OpenTelemetry, so a process that only sends and handles messages need not load it; the
agent turns what arrives into the SDK's own spans (`observe.span_export`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from observe.failure import classify
from observe.span_context import SpanContext

__all__ = [
    "CONSUMER",
    "INTERNAL",
    "OURS",
    "PRODUCER",
    "Event",
    "Link",
    "Scope",
    "Span",
    "how_it_ended",
    "plain",
]

# OpenTelemetry's SpanKind, by value.
INTERNAL, PRODUCER, CONSUMER = 0, 3, 4

_AS: Mapping[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes.__bytes__,
    bool: bool,
    type(None): lambda value: value,
}
_PLAIN = tuple(_AS)
_SAYS = 500  # characters of an error's text


class Scope(NamedTuple):
    """What made a span: a library and its version."""

    name: str
    version: str | None = None
    schema_url: str | None = None
    attributes: Mapping[str, Any] | None = None


OURS = Scope("cluster_app")


class Link(NamedTuple):
    """Another span that a span has to do with."""

    context: SpanContext
    attributes: Mapping[str, Any] = {}


class Event(NamedTuple):
    """Something that happened during a span, at a Unix time in nanoseconds."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any] = {}


class Span(NamedTuple):
    """One span, from its first to its last nanosecond of Unix time.

    :ivar kind: a value of OpenTelemetry's SpanKind.
    :ivar parent: the span it is a child of, or None for the first of its trace.
    :ivar remote: the parent is another process's.
    :ivar ok: None when nobody has said how it ended.
    :ivar says: about an end that is not well.
    """

    name: str
    kind: int
    context: SpanContext
    parent: SpanContext | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any] = {}
    ok: bool | None = None
    says: str = ""
    links: tuple[Link, ...] = ()
    events: tuple[Event, ...] = ()
    scope: Scope = OURS
    remote: bool = False


def how_it_ended(error: BaseException | None) -> tuple[dict[str, str], bool | None, str]:
    """Of a span of ours: attributes, `Span.ok` and `Span.says`. ``error.type`` is the label that metrics have."""
    if error is None:
        return {"cluster.outcome": "ok"}, None, ""
    return {"cluster.outcome": "error", "error.type": classify(error)}, False, str(error)[:_SAYS]


def plain(value: Any) -> Any:
    """A user's value for an attribute, as what any process can read: an enum's member that is a text is that text."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple([plain(each) for each in value])
    for kind in _PLAIN:
        if isinstance(value, kind):
            return _AS[kind](value)
    return value
