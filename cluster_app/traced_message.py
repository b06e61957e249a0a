"""A message that is part of a trace, at its sender: one span from `.remote()` to the settled reply.

Decides what is particular about such a message, so that no other pays for it: it has a kind of its own, which counts as
the real one does, has a trace context, and ends the span when that is counted. What is in its sender's context counts
where it is sent (`follow_message`). Whether it begins a trace by chance is decided when it is carried on, of all that
are carried on together (`begin_traces`).

Each time it is sent again there is a span of its own: a child of the first, with a link to it, until it is sent once
more or the reply is settled. What it causes at its runner is a child of the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from cluster_app.reference import OutgoingMessage
from cluster_app.sending import MessageKind
from entities.response import EntityResponse
from observe import sampling
from observe.instruments import cluster
from observe.regular_spans import RegularSpan, SpanShape, whole
from observe.span_context import SpanContext, new_span_id
from observe.spans import PRODUCER, Link, Span, how_it_ended

__all__ = ["StandIn", "TracedKind", "begin_traces", "follow_message", "sent_attributes"]

_WELL = how_it_ended(None)
_AGAIN: tuple[bool | None, str] = (False, "sent again")


def follow_message(response: EntityResponse[Any], found: object) -> None:
    """Make a message that is about to be sent part of a trace, if what is in its sender's context says so.

    :param found: what `sampling.look` has found there.
    """
    _follow(response, sampling.parent(found, inside=response.cause is not None))


def begin_traces(messages: Sequence[EntityResponse[Any]], drawn: Sequence[int]) -> None:
    """Have the messages at these positions, which are about to be carried on, begin a trace.

    But for those that are decided: by what was in their sender's context, by the message that is being handled there,
    or as part of a broadcast. And for those that were carried on before.
    """
    for position in drawn:
        message = messages[position]
        if type(message.route) is OutgoingMessage and message.cause is None and message.flight is None:
            _follow(message, sampling.root())


class _Decided(OutgoingMessage):
    """The way of one message of which it is decided whether it is part of a trace."""

    __slots__ = ()

    def __init__(self, way: OutgoingMessage, kind: MessageKind) -> None:
        # Without what only `remote` needs: this one is under way.
        self.address = way.address
        self.client = way.client
        self.kind = kind
        self.slot = way.slot
        self.timeout_s = way.timeout_s
        self.entity_id = way.entity_id
        self.name = way.name
        self.timer = way.timer


def _follow(response: EntityResponse[Any], parent: SpanContext | None) -> None:
    route: OutgoingMessage = response.route
    kind = route.kind
    if parent is not None:
        kind = TracedKind(route, parent, response.sent_at)
    response.route = _Decided(route, kind)


def sent_attributes(entity_type: str, method: str, sender: str) -> dict[str, Any]:
    """What a span says of a message that is sent, whatever becomes of it and whoever gets it."""
    return {
        "messaging.system": "cluster_app",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": entity_type,
        "messaging.client.id": sender,
        "cluster.entity.type": entity_type,
        "cluster.method": method,
    }


class StandIn(MessageKind):
    """Stands for a kind in messages that are part of a trace, and counts on that one."""

    __slots__ = ("_kind",)

    def __init__(self, kind: MessageKind) -> None:
        # Of the base's own only what never changes: what there is to count, is counted on the real one.
        self._kind = kind
        self.of, self.names, self.idempotent = kind.of, kind.names, kind.idempotent

    @property
    def real(self) -> MessageKind:
        """See `MessageKind`."""
        return self._kind

    @property
    def sent(self) -> int:
        """See `MessageKind`."""
        return self._kind.sent

    @sent.setter
    def sent(self, count: int) -> None:
        self._kind.sent = count

    @property
    def took_ok(self) -> Any:  # type: ignore[override]
        """See `MessageKind`."""
        return self._kind.took_ok

    def failed(self, error: BaseException, took_s: float) -> None:
        """See `MessageKind`."""
        self._kind.failed(error, took_s)

    def resent(self, reason: str) -> None:
        """See `MessageKind`."""
        self._kind.resent(reason)


class TracedKind(StandIn):
    """The kind of one message, which ends its span when that is counted."""

    __slots__ = (
        "_again",
        "_ended",
        "_parent",
        "_runner",
        "_sent_at",
        "_span_id",
        "_took_s",
        "_way",
    )

    def __init__(self, way: OutgoingMessage, parent: SpanContext, sent_at: float) -> None:
        super().__init__(way.kind)
        self._way = way
        self._parent = parent
        self._sent_at = sent_at
        self._span_id = new_span_id()
        self._again: tuple[tuple[int, float, str], ...] = ()
        self._runner: str | None = None

    @property
    def trace(self) -> str:  # type: ignore[override]
        """The context of the span that it is sent under now; asked for when it is about to leave."""
        lane = self._way.slot.lane
        if lane is not None:
            self._runner = lane.outbound.runner_id
        return self._parent.write_beside(self._again[-1][0] if self._again else self._span_id)

    @property
    def took_ok(self) -> TracedKind:  # type: ignore[override]
        """Where its latency is put if it ends well: here, see `append`."""
        return self

    def append(self, took_s: float) -> None:
        """Count a reply that ended well."""
        self._kind.took_ok.append(took_s)
        self._end(took_s, _WELL)

    def failed(self, error: BaseException, took_s: float) -> None:
        """Count a reply that ended with an error."""
        self._kind.failed(error, took_s)
        self._end(took_s, how_it_ended(error))

    def resent(self, reason: str) -> None:
        """It is sent again, under a span of its own."""
        self._kind.resent(reason)
        self._again = (*self._again, (new_span_id(), self._way.client.now(), reason))

    def _end(self, took_s: float, ended: tuple[dict[str, str], bool | None, str]) -> None:
        self._took_s = took_s
        self._ended = ended
        self._way.client.traces.spans.add(self)

    def told(self, zero_ns: int) -> list[Span | RegularSpan]:
        """Its spans, once it has ended; see `Untold`."""
        kind, client, slot = self._kind, self._way.client, self._way.slot
        start_ns = zero_ns + round(self._sent_at * 1e9)
        end_ns = start_ns + round(self._took_s * 1e9)
        ended, ok, says = self._ended
        point = cluster.message_latency.name, (kind.names[0], "send", "error" if ok is False else "ok")
        trace_id, parent_id, flags, state = self._parent
        client.traces.note(point, self._took_s, end_ns, trace_id, self._span_id)
        regular: RegularSpan = (
            _shape(*kind.names, client.incarnation),
            trace_id,
            parent_id,
            flags,
            state,
            self._span_id,
            start_ns,
            end_ns,
            (str.__str__(self._way.entity_id), str(slot.shard), self._runner),
            0,
        )
        if self._ended is _WELL and not self._again:
            return [regular]
        span = whole(regular)
        first = span._replace(attributes={**span.attributes, **ended}, ok=ok, says=says)
        return [first, *self._sent_again(first, f"resend {'.'.join(kind.names)}")]

    def _sent_again(self, first: Span, name: str) -> Iterator[Span]:
        """The spans of each time it was sent again: the last to the settled reply, those before to the next one."""
        times = [
            min(first.end_ns, first.start_ns + round((at_s - self._sent_at) * 1e9))
            for _, at_s, _ in self._again
        ]
        for turn, (span_id, _, reason) in enumerate(self._again):
            context = first.context.beside(span_id)
            link = Link(first.context, {"cluster.redelivery.reason": reason})
            mine = {**first.attributes, "messaging.operation.name": "resend"}
            if turn + 1 < len(times):
                until_ns, fate = times[turn + 1], _AGAIN
                mine |= {"cluster.outcome": "error", "error.type": self._again[turn + 1][2]}
            else:
                until_ns, fate = first.end_ns, (first.ok, first.says)
            yield Span(name, PRODUCER, context, first.context, times[turn], until_ns, mine, *fate, (link,))


@lru_cache(1000)
def _shape(entity_type: str, method: str, sender: str) -> SpanShape:
    attributes = {**sent_attributes(entity_type, method, sender), **_WELL[0]}
    keys = ("cluster.entity.id", "cluster.shard", "cluster.runner")
    return SpanShape(f"send {entity_type}.{method}", PRODUCER, attributes, keys)
