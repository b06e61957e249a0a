"""A process of its own for one entity, as the host that owns the entity sees it.

Decides what the host may ask of such a process, and how a message is handed on to it. Processes are started, reached
and proven dead elsewhere: behind the two protocols here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from entities.delivery import Delivery, current_delivery
from entities.errors import ClusterError

if TYPE_CHECKING:
    from entities.activation import Activation

__all__ = ["Annex", "AnnexLost", "Annexes", "AnsweredThere", "Left", "hand_on"]


class AnnexLost(Exception):
    """The process ended by itself.

    :ivar sent: whether the message had left for it, and so may have run.
    """

    def __init__(self, detail: str = "its own process ended by itself", *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


class AnsweredThere(Exception):
    """How the message ended in the other process, which has said all that is to say about it."""

    def __init__(self, error: ClusterError) -> None:
        super().__init__(str(error))
        self.error = error


class Left(NamedTuple):
    """What an entity said when it was asked to go.

    :ivar stay_s: seconds that it wants to stay for, having been asked for idleness only; 0 when it has gone.
    :ivar reason: why it went: what it was asked with, or ``failed`` when its `on_deactivate` raised.
    """

    stay_s: float
    reason: str


class Annex(Protocol):
    """One process, made for one activation. What is asked of it raises AnnexLost once it has ended.

    :ivar ended: it has ended by itself.
    """

    ended: bool

    async def open(self, trace: str | None = None) -> None:
        """Start it, and bring the entity to life in it. Raises RunnerNotRegistered when it cannot be started,
        ActivationFailed when the entity does not come to life.

        :param trace: the trace context of that, if it is part of a trace.
        """
        ...

    async def hindrance(self) -> str | None:
        """What keeps it from starting, in words; None when it is only on its way."""
        ...

    def call(self, delivery: Delivery, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        """Hand a message on; its value, or AnsweredThere, or AnnexLost."""
        ...

    def cancel(self, delivery: Delivery) -> None:
        """The sender wants it no more."""
        ...

    async def leave(self, reason: str) -> Left:
        """Ask the entity to go. Nothing of it runs when this has answered without a stay."""
        ...

    async def bury(self) -> None:
        """End the process if it lives. Answers once its death is proven, and never before."""
        ...


class Annexes(Protocol):
    """Gives each activation of a type with hosting ``"actor"`` its annex."""

    def annex(self, activation: Activation, lost: Callable[[], None], wants_out: Callable[[], None]) -> Annex:
        """An annex that is not open yet.

        :param lost: called when the process has ended by itself, once it was open.
        :param wants_out: called when the entity has asked to be let go.
        """
        ...


async def hand_on(annex: Annex, *args: Any, **kwargs: Any) -> Any:
    """The handler of every message to an entity with a process of its own."""
    delivery = current_delivery.get()
    assert delivery is not None
    answer = annex.call(delivery, args, kwargs)
    cancelled = False
    while True:
        try:
            # Shielded: a cancelled handler may still do and say something, and only its end ends the message.
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if cancelled or not delivery.cancelled or answer.done():
                raise
            cancelled = True
            annex.cancel(delivery)
        except AnnexLost:
            activation = delivery.activation
            assert activation is not None
            # Before the next message is started: it must wait for the next process.
            activation.hosted.host.supervision.lost(activation)
            raise
