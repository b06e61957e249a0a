"""One message as its receiver holds it, from acceptance to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from entities.activation import Activation, HostedMessage

__all__ = ["Answerable", "Delivery", "current_delivery", "current_hook"]


class Answerable(Protocol):
    """Where a message came from, and where its answer goes: a lane, or this very process."""

    @property
    def sender(self) -> str:
        """Who sends, as part of message ids."""
        ...

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """The message has ended; a second call for it does nothing."""
        ...


class Delivery:
    """One accepted message.

    :ivar origin: gets the answer, once.
    :ivar sequence: the message's number in its origin.
    :ivar deadline: on the host's clock, in seconds.
    :ivar chain: the messages that are being handled up the call chain, each ``(type, id, message id)``.
    :ivar trace: the W3C ``traceparent`` it came with, or None.
    :ivar first_id: the id it was first sent under, if that was on another lane.
    :ivar counted: another runner has counted it as received, and gave it back.
    :ivar prepare: turns the arguments into what the handler gets (resolves object references), or None.
    :ivar ran: for a handler that a thread took up, when it began and ended there, in seconds; otherwise not set, which
        costs a message nothing.
    """

    __slots__ = (
        "accepted_at",
        "activation",
        "args",
        "cancelled",
        "chain",
        "counted",
        "deadline",
        "entity_id",
        "first_id",
        "kwargs",
        "message",
        "origin",
        "prepare",
        "ran",
        "sequence",
        "started",
        "task",
        "trace",
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
    ) -> None:
        self.origin = origin
        self.sequence = sequence
        self.message = message
        self.entity_id = entity_id
        self.args = args
        self.deadline = deadline
        self.accepted_at = accepted_at
        self.kwargs: Mapping[str, Any] | None = None
        self.chain: tuple[tuple[str, str, str], ...] = ()
        self.trace: str | None = None
        self.first_id: str | None = None
        self.counted = False
        self.prepare: Any = None
        self.activation: Activation | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.cancelled = False

    @property
    def id(self) -> str:
        """The message's id: who sent it, on which lane, as which message."""
        return self.first_id or f"{self.origin.sender}:{self.sequence}"

    def chain_onwards(self) -> tuple[tuple[str, str, str], ...]:
        """The call chain of a message that this one's handler sends."""
        return (*self.chain, (self.message.hosted.definition.name, self.entity_id, self.id))


# What this context is handling. It flows into tasks that a handler starts, so their messages carry the chain too.
current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)

# Whose `__init__`, `on_activate` or `on_deactivate` this context is running, where no message is being handled.
current_hook: ContextVar[Activation | None] = ContextVar("current_hook", default=None)
