"""One message as its receiver holds it, from acceptance to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from entities.activation import Activation, HostedMessage
    from entities.trail import Trail

__all__ = ["Answerable", "Delivery", "Particulars", "current_delivery", "current_hook"]


class Answerable(Protocol):
    """Where a message came from, and where its answer goes: a lane, or this very process."""

    @property
    def sender(self) -> str:
        """Who sends, as part of message ids."""
        ...

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """The message has ended; a second call for it does nothing."""
        ...


class Particulars:
    """What few messages carry. Most deliveries do without, and a slot costs every message its time.

    :ivar chain: the messages that are being handled up the call chain, each ``(type, id, message id)``.
    :ivar first_id: the id it was first sent under, if that was on another lane.
    :ivar counted: another runner has counted it as received, and gave it back.
    :ivar prepare: turns the arguments into what the handler gets (resolves object references), or None.
    :ivar timer: a timer of the entity's own has sent it, so it does not count as use.
    :ivar trail: what follows it as part of a trace, or None.
    """

    __slots__ = ("chain", "counted", "first_id", "kwargs", "prepare", "timer", "trail")

    def __init__(
        self,
        chain: tuple[tuple[str, str, str], ...] = (),
        first_id: str | None = None,
        counted: bool = False,
    ) -> None:
        self.kwargs: Mapping[str, Any] | None = None
        self.chain = chain
        self.first_id = first_id
        self.counted = counted
        self.prepare: Callable[[Delivery], Any] | None = None
        self.timer = False
        self.trail: Trail | None = None


class Delivery:
    """One accepted message.

    :ivar origin: gets the answer, once.
    :ivar sequence: the message's number in its origin.
    :ivar deadline: on the host's clock, in seconds.
    :ivar particulars: what few messages carry, or None.
    :ivar ran: for a handler that a thread took up, when it began and ended there, in seconds; for one that is run again
        because its process was lost, within which time that was. Otherwise not set, which costs a message nothing.
    """

    __slots__ = (
        "accepted_at",
        "activation",
        "args",
        "cancelled",
        "deadline",
        "entity_id",
        "message",
        "origin",
        "particulars",
        "ran",
        "sequence",
        "started",
        "task",
    )

    ran: tuple[float, float]

    def __init__(
        self,
        origin: Answerable,
        sequence: int,
        message: HostedMessage,
        entity_id: str,
        args: tuple[Any, ...],
        deadline: float,
        accepted_at: float,
        activation: Activation | None = None,
    ) -> None:
        self.origin = origin
        self.sequence = sequence
        self.message = message
        self.entity_id = entity_id
        self.args = args
        self.deadline = deadline
        self.accepted_at = accepted_at
        self.activation = activation
        self.particulars: Particulars | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.cancelled = False

    @property
    def kwargs(self) -> Mapping[str, Any] | None:
        """Its arguments by keyword."""
        return self.particulars.kwargs if self.particulars is not None else None

    @property
    def chain(self) -> tuple[tuple[str, str, str], ...]:
        """The messages that are being handled up the call chain, each ``(type, id, message id)``."""
        return self.particulars.chain if self.particulars is not None else ()

    @property
    def trail(self) -> Trail | None:
        """What follows it as part of a trace, or None."""
        return self.particulars.trail if self.particulars is not None else None

    @property
    def counted(self) -> bool:
        """Whether another runner has counted it as received, and gave it back."""
        return self.particulars is not None and self.particulars.counted

    @property
    def id(self) -> str:
        """The message's id: who sent it, on which lane, as which message."""
        first_id = self.particulars.first_id if self.particulars is not None else None
        return first_id or f"{self.origin.sender}:{self.sequence}"

    def chain_onwards(self) -> tuple[tuple[str, str, str], ...]:
        """The call chain of a message that this one's handler sends."""
        return (*self.chain, (self.message.hosted.definition.name, self.entity_id, self.id))


# What this context is handling. It flows into tasks that a handler starts, so their messages carry the chain too.
current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)

# Whose `__init__`, `on_activate` or `on_deactivate` this context is running, where no message is being handled.
current_hook: ContextVar[Activation | None] = ContextVar("current_hook", default=None)
