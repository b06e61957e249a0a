"""A message that is part of a trace, at its receiver: one span from acceptance to its answer, one for an activation.

Decides what these spans say. Such a message's origin is its trail, which tells the real one; so whatever way it ends,
its span ends with it, and no other message pays for that. Its trail is the span itself: loads OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from cluster_app.origin import Returning
from cluster_app.shard import ShardId
from entities.activation import HostedType
from entities.delivery import Answerable, Delivery
from observe.open_span import OpenSpan
from observe.regular_spans import SpanShape
from observe.span_context import SpanContext
from observe.spans import CONSUMER, INTERNAL
from observe.traces import Traces

__all__ = ["TracedBirth", "TracedDelivery"]


class TracedDelivery(OpenSpan):
    """The trail of one message, its span, and its origin.

    :ivar origin: the real one.
    """

    _first_id: str | None = None
    _hosted: HostedType | None = None

    def __init__(
        self,
        delivery: Delivery,
        parent: SpanContext,
        place: str,
        traces: Traces,
        now: Callable[[], float],
        kind: int,
    ) -> None:
        super().__init__(traces, parent, delivery.accepted_at)
        self._kind = kind
        # Not the delivery, which keeps it: that would be a cycle.
        self.origin: Answerable = delivery.origin
        self._message = delivery.message
        self._entity_id = delivery.entity_id
        self._sequence = delivery.sequence
        self._place = place
        self._now = now
        if delivery.particulars is not None and delivery.particulars.first_id is not None:
            self._first_id = delivery.particulars.first_id

    def described(self) -> tuple[SpanShape, tuple[Any, ...]]:
        """See `OpenSpan`."""
        names = self._message.hosted.definition.name, self._message.name, self._place
        hosted = self._hosted
        shard = None if hosted is None else str(ShardId(hosted.definition.options.group, self._shard))
        entity_id = str.__str__(self._entity_id)  # else one of a class of the user's would travel as such
        if self._kind != CONSUMER:
            return _handled(*names), (entity_id, shard)
        message_id = self._first_id or f"{self.origin.sender}:{self._sequence}"
        return _processed(*names), (entity_id, shard, message_id)

    # -- as the host sees it: a `Trail`

    @property
    def trace(self) -> str:
        """See `Trail`."""
        return self.context.write()

    def started(self) -> None:
        """See `Trail`."""
        if self._event_s is not None:
            self.happened("handler started", self._now())  # once more: the process it was in is lost
        elif not self._message.on_thread:  # else the thread will tell
            self._event_s = self._now()
        self.become_current()

    def birth(self, entity_type: str, entity_id: str) -> TracedBirth:
        """See `Trail`."""
        return TracedBirth(
            self.context, entity_type, entity_id, self._place, self._traces, self._now, remote=False
        )

    def refused(self, why: BaseException) -> None:
        """See `Trail`."""
        self.close(self._now(), why)

    # -- as the message's origin

    @property
    def sender(self) -> str:
        """See `Answerable`."""
        return self.origin.sender

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """The message has ended, and its span with it."""
        if self._message.on_thread and (ran := getattr(delivery, "ran", None)) is not None:
            self._event_s = ran[0]
        self._activated_in(delivery)
        self.close(self._now(), error)
        self.origin.answer(delivery, value, error)

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        """It was taken and has not started, and goes back: its shard leaves this runner."""
        self.happened("sent back", self._now())
        self._activated_in(delivery)
        self.close(self._now(), None, settled=False)
        cast(Returning, self.origin).send_back(delivery, shard)  # a runner's, else nothing is sent back

    def _activated_in(self, delivery: Delivery) -> None:
        activation = delivery.activation
        if activation is not None:
            self._hosted, self._shard = activation.hosted, activation.shard


class TracedBirth(OpenSpan):
    """The trail of one activation, and its span.

    :param remote: it is asked for by the owner, and goes on in the entity's own process.
    """

    def __init__(
        self,
        parent: SpanContext,
        entity_type: str,
        entity_id: str,
        place: str,
        traces: Traces,
        now: Callable[[], float],
        *,
        remote: bool,
    ) -> None:
        super().__init__(traces, parent, now())
        self._remote = remote
        self._entity_type = entity_type
        self._entity_id = entity_id
        self._place = place
        self._now = now

    def described(self) -> tuple[SpanShape, tuple[Any, ...]]:
        """See `OpenSpan`."""
        shape = _begun if self._remote else _activated
        return shape(self._entity_type, self._place), (str.__str__(self._entity_id),)

    @property
    def trace(self) -> str:
        """See `Birth`."""
        return self.context.write()

    def ended(self, error: BaseException | None) -> None:
        """See `Birth`."""
        self.close(self._now(), error)


_SHAPES = 1000  # of methods, or types, that are remembered at a time
_STARTED = "handler started"


@lru_cache(_SHAPES)
def _processed(entity_type: str, method: str, runner: str) -> SpanShape:
    attributes = {
        "cluster.entity.type": entity_type,
        "cluster.method": method,
        "cluster.outcome": "ok",
        "cluster.runner": runner,
        "messaging.system": "cluster_app",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": entity_type,
    }
    keys = ("cluster.entity.id", "cluster.shard", "messaging.message.id")
    return SpanShape(f"process {entity_type}.{method}", CONSUMER, attributes, keys, _STARTED, remote=True)


@lru_cache(_SHAPES)
def _handled(entity_type: str, method: str, process: str) -> SpanShape:
    attributes = {
        "cluster.entity.type": entity_type,
        "cluster.method": method,
        "cluster.outcome": "ok",
        "cluster.process": process,
    }
    keys = ("cluster.entity.id", "cluster.shard")
    return SpanShape(f"handle {entity_type}.{method}", INTERNAL, attributes, keys, _STARTED, remote=True)


@lru_cache(_SHAPES)
def _begun(entity_type: str, process: str) -> SpanShape:
    attributes = {"cluster.entity.type": entity_type, "cluster.outcome": "ok", "cluster.process": process}
    return SpanShape(f"begin {entity_type}", INTERNAL, attributes, ("cluster.entity.id",), remote=True)


@lru_cache(_SHAPES)
def _activated(entity_type: str, runner: str) -> SpanShape:
    attributes = {"cluster.entity.type": entity_type, "cluster.outcome": "ok", "cluster.runner": runner}
    return SpanShape(f"activate {entity_type}", INTERNAL, attributes, ("cluster.entity.id",))
