"""The owner's end: one entity's process, as the runner that holds its shard deals with it.

Decides what is lent to the process, what is told to it, and when it counts as lost. How it is reached is the link's
business, what becomes of its messages the host's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from cluster_app.annex_calls import Call, Lent, Link, Reply, Tenancy
from cluster_app.arriving import unpacked_at
from cluster_app.envelope import Codec, Packed
from entities.activation import Activation
from entities.annex import AnnexLost, AnsweredThere, Left
from entities.answers import address_of
from entities.crew import Gate
from entities.declaration import EntityDefinition
from entities.delivery import Delivery
from entities.errors import ActivationFailed, ClusterError, HandlerError, MalformedMessage, Unknown, describe
from entities.host import Neighbours

__all__ = ["OwnedAnnex", "OwnedAnnexes"]

_GRACE_S = 5.0  # an entity that has gone leaves its process in good order, if it does so in time


class OwnedAnnex:
    """One process of one entity; an `entities.annex.Annex`.

    :param lost: called when it has ended by itself.
    :param wants_out: called when the entity has asked to be let go.
    :param repeat: called when it has asked for a timer.
    """

    def __init__(
        self,
        link: Link,
        gate: Gate,
        now: Callable[[], float],
        codec: Codec,
        neighbours: Any,
        lost: Callable[[], None],
        wants_out: Callable[[], None],
        repeat: Callable[[float, str], None],
    ) -> None:
        self.ended = False
        self._link = link
        self._gate = gate
        self._now = now
        self._codec = codec
        self._neighbours = neighbours
        self._lost = lost
        self._wants_out = wants_out
        self._repeat = repeat
        self._told = 0  # the number of its last answer
        self._calls = 0
        self._numbers: dict[Delivery, int] = {}
        self._listening: asyncio.Task[None] | None = None
        self._burial: asyncio.Future[None] | None = None
        self._gone = False

    def _lend(self) -> Lent:
        return Lent(self._told, max(0.0, self._gate.until - self._now()))

    async def open(self, trace: str | None = None) -> None:
        """Start it, and bring the entity to life."""
        await self._link.begin()
        # From here on the lease is lent, however long coming to life takes.
        self._listening = asyncio.get_running_loop().create_task(self._listen())
        reply = await self._link.activate(self._lend(), trace)
        self._told = max(self._told, reply.answer)
        if reply.error is not None:
            error = self._unpack_error(reply.error)
            raise error if isinstance(error, ActivationFailed) else ActivationFailed(describe(error))

    async def hindrance(self) -> str | None:
        """What keeps it from starting."""
        return await self._link.hindrance()

    async def _listen(self) -> None:
        with contextlib.suppress(AnnexLost):
            while True:
                news = await self._link.news(self._lend())
                self._told = max(self._told, news.answer)
                for seconds, method in news.timers:
                    self._repeat(seconds, method)
                if news.wants_out:
                    self._wants_out()
                if news.over:
                    return
        if self._burial is None and not self._gone:
            self.ended = True
            self._lost()

    # -- messages

    def call(self, delivery: Delivery, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        """Hand a message on."""
        answer = asyncio.ensure_future(self._call(delivery, args, kwargs))
        answer.add_done_callback(_heard)
        return answer

    async def _call(self, delivery: Delivery, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.ended or self._burial is not None:
            raise AnnexLost(sent=False)
        try:
            arguments = self._codec.pack((args, kwargs))
        except Exception as raised:
            raise AnsweredThere(
                _malformed(delivery, f"an argument cannot be pickled: {describe(raised)}")
            ) from None
        number, self._calls = self._calls, self._calls + 1
        self._numbers[delivery] = number
        try:
            reply = await self._link.call(
                Call(
                    number,
                    delivery.message.name,
                    arguments,
                    delivery.deadline - self._now(),
                    delivery.chain,
                    delivery.trail.trace if delivery.trail is not None else None,
                    delivery.id,
                    self._lend(),
                )
            )
        except AnnexLost:
            self.ended = True
            raise
        except BaseException:
            self._link.cancel(number)  # it may never have left, and those behind it must not wait for it
            raise
        finally:
            del self._numbers[delivery]
        return self._ended_with(reply)

    def _ended_with(self, reply: Reply) -> Any:
        self._told = max(self._told, reply.answer)
        if reply.wants_out:
            self._wants_out()  # before the next message can begin
        if reply.error is None:
            return reply.value
        error = self._unpack_error(reply.error)
        raise AnsweredThere(error if isinstance(error, ClusterError) else Unknown(repr(error)))

    def _unpack_error(self, data: bytes) -> BaseException:
        try:
            error = unpacked_at(self._neighbours, self._codec, Packed(data))
        except BaseException as raised:
            return HandlerError(f"its error cannot be unpickled by its owner: {describe(raised)}")
        return error if isinstance(error, BaseException) else Unknown(repr(error))

    def cancel(self, delivery: Delivery) -> None:
        """Its sender wants the message no more."""
        number = self._numbers.get(delivery)
        if number is not None:
            self._link.cancel(number)

    async def states(self) -> dict[str, Any] | None:
        """The entity's public attributes, as they travel; None once it has been let go."""
        return await self._link.states()

    # -- its end

    async def leave(self, reason: str) -> Left:
        """Ask the entity to go."""
        if self.ended:
            raise AnnexLost
        left = await self._link.leave(reason)
        self._gone = left.stay_s <= 0
        return left

    async def bury(self) -> None:
        """End it, and wait for the proof of its death."""
        if self._burial is None:
            self._burial = asyncio.ensure_future(self._link.bury(_GRACE_S if self._gone else 0.0))
        await asyncio.shield(self._burial)
        if self._listening is not None:
            self._listening.cancel()


def _heard(answer: asyncio.Future[Any]) -> None:
    """Nobody has to be there any more to hear how a message ended."""
    if not answer.cancelled():
        answer.exception()


def _malformed(delivery: Delivery, detail: str) -> MalformedMessage:
    return MalformedMessage(detail, address=address_of(delivery), method=delivery.message.name)


class Owner(Gate, Protocol):
    """A runner, as its annexes know it: whose right to run they are lent."""

    runner_id: str


class OwnedAnnexes:
    """The annexes of one runner.

    :param link: gives the way to a process that is still to be started.
    """

    def __init__(
        self,
        owner: Owner,
        now: Callable[[], float],
        codec: Codec,
        neighbours: Neighbours,
        link: Callable[[Tenancy, EntityDefinition], Link],
    ) -> None:
        self._link = link
        self._owner = owner
        self._now = now
        self._codec = codec
        self._neighbours = neighbours
        self._numbers = itertools.count(1)

    def annex(
        self, activation: Activation, lost: Callable[[], None], wants_out: Callable[[], None]
    ) -> OwnedAnnex:
        """See `entities.annex.Annexes`."""
        definition = activation.hosted.definition
        tenancy = Tenancy(
            f"{self._owner.runner_id}/{next(self._numbers)}",
            definition.name,
            activation.entity_id,
            activation.shard,
            activation.epoch,
        )
        return OwnedAnnex(
            self._link(tenancy, definition),
            self._owner,
            self._now,
            self._codec,
            self._neighbours,
            lost,
            wants_out,
            partial(activation.hosted.host.repeat, activation),
        )
