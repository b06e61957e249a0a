"""A broadcast that is part of a trace, at its sender: one span from the call to its reply.

Decides what that span says. What the broadcast causes at each entity is a child of it, whichever shard it came by.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cluster_app.broadcast import BroadcastResult, ShardRoute
from cluster_app.traced_message import StandIn, sent_attributes
from entities.address import EntityAddress
from entities.delivery import current_delivery
from entities.response import EntityResponse
from observe import sampling
from observe.span_context import SpanContext
from observe.spans import PRODUCER, Span, how_it_ended

if TYPE_CHECKING:
    from cluster_app.client import Client

__all__ = ["TracedBroadcast", "follow_broadcast"]


def follow_broadcast(
    reply: EntityResponse[BroadcastResult], address: EntityAddress, method: str, client: Client, found: object
) -> TracedBroadcast | None:
    """Make a broadcast part of a trace, if it is one of those that are kept.

    :param address: the type, and a star for its id.
    :param found: what `sampling.look` has found where it is sent, if anything.
    """
    inside = current_delivery.get() is not None
    parent = sampling.parent(found, inside=inside) if found else sampling.first(inside=inside)
    if parent is None:
        return None
    traced = TracedBroadcast(address, method, client, parent)
    reply.add_done_callback(partial(traced.ended, client.now()))
    return traced


class TracedBroadcast:
    """The span of one broadcast."""

    def __init__(self, address: EntityAddress, method: str, client: Client, parent: SpanContext) -> None:
        self._address = address
        self._method = method
        self._client = client
        self._parent = parent
        self._span = parent.child()

    def along(self, routes: list[ShardRoute]) -> list[ShardRoute]:
        """The same ways, on which messages carry its context."""
        if not routes:
            return routes
        kind = _Part(routes[0].kind, self._span.write())
        return [ShardRoute(kind, route.slot, route.address) for route in routes]

    def ended(self, sent_at: float, reply: EntityResponse[BroadcastResult]) -> None:
        """Its reply is there."""
        client, error = self._client, reply.exception()
        start_ns = client.traces.unix_ns(sent_at)
        end_ns = start_ns + max(0, round((client.now() - sent_at) * 1e9))
        ended, ok, says = how_it_ended(error)
        attributes = sent_attributes(self._address.type, self._method, client.incarnation)
        attributes["cluster.entity.id"] = self._address.id
        attributes["messaging.operation.name"] = "broadcast"
        if error is None:
            result: BroadcastResult = reply.result()
            attributes |= {"cluster.delivered": result.delivered, "cluster.failed": result.failed}
        attributes |= ended
        parent = self._parent if self._parent.span_id else None
        name = f"broadcast {self._address.type}.{self._method}"
        client.traces.spans.add(
            Span(name, PRODUCER, self._span, parent, start_ns, end_ns, attributes, ok, says)
        )


class _Part(StandIn):
    """The kind of the messages to shards that a traced broadcast is made of."""

    __slots__ = ("trace",)

    def __init__(self, kind: Any, trace: str) -> None:
        super().__init__(kind)
        self.trace = trace
