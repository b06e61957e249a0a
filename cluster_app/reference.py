"""A reference to an entity: what `cluster.entity` really returns, and the one place where a message begins.

Decides what a user can touch from outside: declared messages, nothing else. A type checker sees the entity's own
class (`cluster.entity` says so); at run time ``ref.value`` raises AttributeError and ``ref.increment(1)`` TypeError.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cluster_app.arriving import current_cluster
from cluster_app.envelope import Atoms
from entities.address import EntityAddress
from entities.declaration import EntityDefinition
from entities.delivery import current_delivery
from entities.errors import MalformedMessage, describe
from entities.response import EntityResponse
from observe import sampling

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.sending import MessageKind, ShardSlot

__all__ = ["OutgoingMessage", "Reference"]


_LONG = 10_000  # bytes or characters


class OutgoingMessage:
    """One declared message of one entity, ready to be sent. It is what a reply knows of its message.

    :ivar kind: what is counted together: the entity type and the method.
    :ivar slot: the entity's shard, as this sender sees it.
    :ivar timer: a timer of that entity sends it.
    """

    __slots__ = (
        "_inbox",
        "_now",
        "_pump",
        "address",
        "client",
        "entity_id",
        "kind",
        "name",
        "slot",
        "timeout_s",
        "timer",
    )

    def __init__(
        self,
        address: EntityAddress,
        client: Client,
        kind: MessageKind,
        slot: ShardSlot,
        timeout_s: float | None,
    ) -> None:
        # Not its reference, which keeps it: whoever sends one message to each of many would leave cycles behind.
        self.address = address
        self.client = client
        self.kind = kind
        self.slot = slot
        self.timeout_s = timeout_s
        self.entity_id = address.id
        self.name = kind.names[1]
        self.timer = False
        self._inbox = client.inbox
        self._pump = client.pump
        self._now = client.now

    def remote(self, *args: Any, **kwargs: Any) -> EntityResponse[Any]:
        """Send it. Never blocks and raises nothing: whatever goes wrong ends in the reply."""
        now = self._now()
        response: EntityResponse[Any] = EntityResponse(self, args, now)
        if self.timeout_s is not None:
            response.deadline = now + self.timeout_s
        cause = current_delivery.get()
        if cause is not None:
            # The caller's own deadline bounds what it may wait for.
            response.cause = cause
            own = now + self.client.default_timeout_s if response.deadline is None else response.deadline
            response.deadline = min(own, cause.deadline)
        if kwargs:
            self._pack(response, kwargs)
        else:
            for argument in args:
                kind = type(argument)
                # A long text is packed too: what is packed counts towards the bytes of a frame.
                if kind not in Atoms or ((kind is str or kind is bytes) and len(argument) > _LONG):
                    self._pack(response, None)
                    break
        if found := sampling.look():
            _follow(response, found)
        self._inbox.append(response)
        lane = self.slot.lane
        if lane is None or len(self._inbox) > lane.patience:
            self._pump()
        return response

    def options(self, *, timeout_s: float | None = None) -> OutgoingMessage:
        """The same message with a deadline of its own, in seconds from when it is sent. None: the default."""
        if timeout_s is not None and not isinstance(timeout_s, int | float):
            raise TypeError(f"options(timeout_s={timeout_s!r}): a number of seconds, or None for the default")
        return OutgoingMessage(self.address, self.client, self.kind, self.slot, timeout_s)

    def of_timer(self) -> OutgoingMessage:
        """The same message as a timer of the entity's own sends it."""
        message = OutgoingMessage(self.address, self.client, self.kind, self.slot, self.timeout_s)
        message.timer = True
        return message

    def cancel(self, response: EntityResponse[Any]) -> bool:
        """See `EntityResponse.cancel`."""
        return self.client.cancel(response)

    def hurry(self) -> None:
        """A thread waits for a reply: see `Client.hurry`."""
        self.client.hurry()

    def hurry_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task waits for a reply: see `Client.hurry_soon`."""
        self.client.hurry_soon(loop)

    def _pack(self, response: EntityResponse[Any], kwargs: dict[str, Any] | None) -> None:
        # Pickled here and now: what the caller does to a list afterwards is not sent, and what cannot be pickled
        # fails alone.
        try:
            response.args = self.client.codec.pack((response.args, kwargs))
        except Exception as raised:
            error = MalformedMessage(
                f"an argument cannot be pickled: {describe(raised)}",
                address=self.address,
                method=self.name,
            )
            error.__cause__ = raised
            response.args = error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: a call would be local, and the entity is elsewhere."""
        raise TypeError(
            f"{self} is a message to another object: send it with {self.name}.remote(...), "
            "then await the reply or take its .result()"
        )

    def __str__(self) -> str:
        return f"{self.address}.{self.name}"

    __repr__ = __str__


class Reference:
    """An entity's address together with the way to it. Equal, hashed, pickled and printed by address."""

    def __init__(self, client: Client, definition: EntityDefinition, entity_id: str) -> None:
        self._client = client
        self._definition = definition
        self._address = EntityAddress(definition.name, entity_id)

    def __getattr__(self, name: str) -> OutgoingMessage:
        definition: EntityDefinition = self.__dict__["_definition"]
        if name not in definition.messages:
            declared = ", ".join(sorted(definition.messages)) or "none"
            raise AttributeError(
                f"{definition.name}.{name} is not a declared message, so it cannot be reached from outside "
                f"(declared: {declared})"
            )
        outgoing = self._client.outgoing(self._address, definition, name)
        self.__dict__[name] = outgoing  # found without this method next time
        return outgoing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other._address == self._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return str(self._address)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._definition.cls, self._address.id)


def _follow(response: EntityResponse[Any], found: object) -> None:
    global _follow
    from cluster_app.traced_message import follow_message  # few processes need it

    _follow = follow_message
    follow_message(response, found)


def _arrive(entity_type: type[Any], entity_id: str) -> Any:
    return current_cluster().entity(entity_type, entity_id)
