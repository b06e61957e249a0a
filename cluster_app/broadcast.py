"""A broadcast at its sender: one message to every living entity of a type.

It travels as one message per shard, in the lanes' order with all others, and each runner hands its shard's to the
entities that live there (`broadcast_targets`). Decides what the answers of the shards make together.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster_app.broadcast_counts import BroadcastCounts, BroadcastKind
from cluster_app.broadcast_targets import GRACE_S, read_tally
from cluster_app.envelope import Atoms
from cluster_app.sending import MessageKind, ShardSlot
from entities.address import EntityAddress
from entities.declaration import EntityDefinition, define
from entities.delivery import current_delivery
from entities.entity_class import Entity
from entities.errors import ClusterError, MalformedMessage, describe
from entities.response import EntityResponse, settle
from observe import sampling
from observe.failure import classify

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.traced_broadcast import TracedBroadcast

__all__ = ["BroadcastResult", "Broadcaster", "ShardRoute", "Ways"]


@dataclasses.dataclass(frozen=True, slots=True)
class BroadcastResult:
    """What became of a broadcast.

    :ivar delivered: entities whose handler returned.
    :ivar failed: entities that ended with an error, and shards whose runner could not tell, one for each.
    :ivar errors: how many of those that failed did so for which reason (see `ClusterError.reason`).
    """

    delivered: int
    failed: int
    errors: Mapping[str, int]


class Broadcaster:
    """`Cluster.broadcast`: call it to send, or `options(...)` for another deadline first."""

    def __init__(self, ways: Ways, timeout_s: float | None = None) -> None:
        self._ways = ways
        self._timeout_s = timeout_s

    def __call__(
        self, entity_type: type[Entity], method: str, /, *args: Any, **kwargs: Any
    ) -> EntityResponse[BroadcastResult]:
        """Send a message to every entity of a type that lives; starts none. Never blocks.

        It goes to the entities that live when it arrives at their runners, and keeps its place among this sender's
        messages to each of them. The reply is there once every handler has ended or the deadline has passed, and up to
        a second later when a runner does not answer. Cancelling it keeps what has not started from running, and gives
        async handlers `asyncio.CancelledError`; those entities count as failed.

        What is wrong with the broadcast as a whole ends the reply: MalformedMessage for an undeclared method or
        arguments that do not fit or cannot be pickled, and the error that kept all of it from reaching any runner:
        RunnerNotRegistered if the cluster does not take the type, for one.

        :raises TypeError: the class is no entity, or the method's name no str.
        """
        if not isinstance(method, str):
            raise TypeError(
                f"broadcast(Type, {method!r}): the name of a message, as in broadcast(Type, 'read')"
            )
        name = str.__str__(method)  # it travels: a class derived from str may be unknown elsewhere
        return _Broadcast(self._ways, define(entity_type), name).send(args, kwargs, self._timeout_s)

    def options(self, *, timeout_s: float | None = None) -> Broadcaster:
        """The same with a deadline of its own, in seconds from when it is sent. None: the default."""
        if timeout_s is not None and not isinstance(timeout_s, int | float):
            raise TypeError(f"options(timeout_s={timeout_s!r}): a number of seconds, or None for the default")
        return Broadcaster(self._ways, timeout_s)


class ShardRoute:
    """The way of a broadcast to one shard, with the names that the client knows a message's way by.

    :ivar entity_id: the shard's number: no entity has a number for its id, so the runner finds none and looks closer.
    """

    __slots__ = ("address", "entity_id", "kind", "name", "slot")

    def __init__(self, kind: MessageKind, slot: ShardSlot, everybody: EntityAddress) -> None:
        self.kind = kind
        self.slot = slot
        self.entity_id = slot.shard.number
        self.name = kind.names[1]
        self.address = everybody

    def __str__(self) -> str:
        return f"{self.address}.{self.name} to shard {self.slot.shard}"


class Ways:
    """What one sender's broadcasts share: the ways to all shards, by method, and the counts, by type."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._counts: dict[str, BroadcastCounts] = {}
        self._routes: dict[tuple[str, str], tuple[BroadcastKind, list[ShardRoute]]] = {}

    def counts(self, entity_type: str) -> BroadcastCounts:
        """The counts of a type."""
        counts = self._counts.get(entity_type)
        if counts is None:
            counts = self._counts[entity_type] = BroadcastCounts(entity_type)
            self.client.also_flush(counts)
        return counts

    def to_shards(self, definition: EntityDefinition, method: str) -> list[ShardRoute]:
        """The ways of a declared message to all shards of its type, in the order of their numbers."""
        known = self.client.types.known(definition)
        kind, routes = self._routes.get((definition.name, method), (None, []))
        if kind is None or kind.of is not known:
            kind, everybody = BroadcastKind(known, method), EntityAddress(definition.name, "*")
            self.client.also_flush(kind)
            routes = [ShardRoute(kind, slot, everybody) for slot in self.client.slots(definition)]
            self._routes[definition.name, method] = kind, routes
        return routes


class _Broadcast:
    """One broadcast under way; to its reply it is what a message's way is to other replies."""

    def __init__(self, ways: Ways, definition: EntityDefinition, method: str) -> None:
        self._ways = ways
        self._client = ways.client
        self._definition = definition
        self._method = method
        self._sent_at = self._client.now()
        self._counts = ways.counts(definition.name)
        self._lock = threading.Lock()  # the shards' replies end on any thread
        self._parts: list[EntityResponse[Any]] = []
        self._pending = 0
        self._delivered = 0
        self._errors: dict[str, int] = {}
        self._unsent: list[ClusterError] = []
        self._trail: TracedBroadcast | None = None

    def __str__(self) -> str:
        return f"{self._definition.name}/*.{self._method}"

    def send(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None
    ) -> EntityResponse[BroadcastResult]:
        client = self._client
        self._reply: EntityResponse[BroadcastResult] = EntityResponse(self, None, self._sent_at)
        if (found := sampling.look()) or sampling.chance:
            self._follow(found)
        content = self._packed(args, kwargs)
        if isinstance(content, MalformedMessage):
            self._end_as_a_whole(content)
            return self._reply
        deadline = self._sent_at + (client.default_timeout_s if timeout_s is None else timeout_s)
        cause = current_delivery.get()
        if cause is not None:
            deadline = min(deadline, cause.deadline)  # the caller's own bounds what it may wait for
        routes = self._ways.to_shards(self._definition, self._method)
        if self._trail is not None:
            routes = self._trail.along(routes)
        self._pending = len(routes)
        for route in routes:
            part: EntityResponse[Any] = EntityResponse(route, content, self._sent_at)
            part.deadline = deadline + GRACE_S
            part.cause = cause
            part.add_done_callback(self._ended)
            self._parts.append(part)
        client.inbox.extend(self._parts)
        client.pump()
        return self._reply

    def _follow(self, found: object) -> None:
        from cluster_app.traced_broadcast import follow_broadcast  # few processes need it

        address = EntityAddress(self._definition.name, "*")
        self._trail = follow_broadcast(self._reply, address, self._method, self._client, found)

    def hurry(self) -> None:
        """Somebody waits for the reply."""
        self._client.hurry()

    def hurry_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task waits for the reply."""
        self._client.hurry_soon(loop)

    def cancel(self, reply: EntityResponse[Any]) -> bool:
        """See `EntityResponse.cancel`."""
        return any([self._client.cancel(part) for part in self._parts if not part.done()])

    def _packed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments as they travel, or why they cannot."""
        address = EntityAddress(self._definition.name, "*")
        declaration = self._definition.messages.get(self._method)
        if declaration is None:
            declared = ", ".join(sorted(self._definition.messages)) or "none"
            return MalformedMessage(
                f"it is not a declared message (declared: {declared})", address=address, method=self._method
            )
        wrong = declaration.binds(args, kwargs)
        if wrong is not None:
            return MalformedMessage(wrong, address=address, method=self._method)
        if not kwargs and all(type(argument) in Atoms for argument in args):
            return args
        try:
            return self._client.codec.pack((args, kwargs or None))
        except Exception as raised:
            error = MalformedMessage(
                f"an argument cannot be pickled: {describe(raised)}", address=address, method=self._method
            )
            error.__cause__ = raised
            return error

    def _ended(self, part: EntityResponse[Any]) -> None:
        """A shard's part has ended: with the count of those who got it and the reasons of those who did not."""
        error = part.exception()
        delivered, errors = read_tally(part.result()) if error is None else (0, {classify(error): 1})
        with self._lock:
            self._pending -= 1
            if isinstance(error, ClusterError) and not error.may_have_run:
                self._unsent.append(error)  # counted at the end, when it is known whether that is true of all
            else:
                self._settled(delivered, errors)
            if self._pending:
                return
            reached_nobody = len(self._unsent) == len(self._parts)
            if not reached_nobody:
                for unsent in self._unsent:
                    self._settled(0, {classify(unsent): 1})
            self._parts = []  # the reply may be kept for long
        if reached_nobody:
            self._end_as_a_whole(self._unsent[0])
        else:
            failed = sum(self._errors.values())
            settle(self._reply, BroadcastResult(self._delivered, failed, self._errors), None)

    def _settled(self, delivered: int, errors: Mapping[str, int]) -> None:
        self._delivered += delivered
        for reason, count in errors.items():
            self._errors[reason] = self._errors.get(reason, 0) + count
        self._counts.settled(self._client.now() - self._sent_at, delivered, errors)

    def _end_as_a_whole(self, error: ClusterError) -> None:
        error.address = EntityAddress(self._definition.name, "*")  # a runner names the shard
        self._counts.settled(self._client.now() - self._sent_at, 0, {classify(error): 1})
        settle(self._reply, None, error)
