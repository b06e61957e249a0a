"""A broadcast at its receiver: a shard's message becomes one for each entity of the type that lives in the shard.

Decides who these are, and what is told to the sender: one answer per shard, with counts. How each of the messages is
handled is the host's business, as for any other; order and repetition are the lanes'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster_app.envelope import Extras
from cluster_app.grants import Epoch
from cluster_app.origin import Origin
from cluster_app.shard import ShardId
from entities.activation import Activation, HostedMessage, HostedType, Phase
from entities.delivery import Answerable, Delivery, Particulars
from entities.errors import ClusterError, EntityNotAssignedToRunner, Timeout
from entities.live_table import LiveTable
from entities.turns import Turns
from observe.failure import classify

__all__ = ["GRACE_S", "BroadcastTargets", "ShardBroadcast", "read_tally"]

# A shard's message lives that much longer than the handlers it causes: time for its runner to tell who was late.
GRACE_S = 1.0

Unpack = Callable[[Delivery, Extras, tuple[Any, ...], float], ClusterError | None]


class ShardBroadcast(Delivery):
    """A shard's part of a broadcast: to its lane a message, to the entities' messages where their answers go."""

    __slots__ = ("_delivered", "_errors", "_started_all", "_timer", "waiting")

    def __init__(
        self, origin: Answerable, sequence: int, message: HostedMessage, deadline: float, accepted_at: float
    ) -> None:
        super().__init__(origin, sequence, message, "*", (), deadline, accepted_at)
        self.waiting: dict[int, Delivery] = {}
        self._delivered = 0
        self._errors: dict[str, int] = {}
        self._started_all = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def sender(self) -> str:
        """Part of the ids of the entities' messages."""
        return self.id

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """One of the entities' messages has ended."""
        if self.waiting.pop(delivery.sequence, None) is not None:
            self.note(error)
            self._answer_if_complete()

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        """An entity is let go to another runner before its turn. Its part is over: others have been told already."""
        self.answer(delivery, None, EntityNotAssignedToRunner(shard=str(shard)))

    def note(self, error: BaseException | None) -> None:
        """Count one entity."""
        if error is None:
            self._delivered += 1
        else:
            reason = classify(error)
            self._errors[reason] = self._errors.get(reason, 0) + 1

    def all_have_started(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Every handler has had its first step: answer if none has to be waited for, else at the deadline at last."""
        self._started_all = True
        self._answer_if_complete()
        if self.waiting:
            self._timer = loop.call_later(max(0.0, self.deadline - now), self._too_late)

    def _too_late(self) -> None:
        while self.waiting:
            self.waiting.popitem()
            self.note(Timeout())
        self._answer_if_complete()

    def _answer_if_complete(self) -> None:
        if self._started_all and not self.waiting:
            if self._timer is not None:
                self._timer.cancel()
            tally = (self._delivered, self._errors) if self._errors else self._delivered
            self.origin.answer(self, tally, None)


def read_tally(tally: Any) -> tuple[int, dict[str, int]]:
    """How many handlers returned, and how many ended for which reason. A plain number needs no pickle of its own."""
    return (tally, {}) if isinstance(tally, int) else tally


class BroadcastTargets:
    """The entities of one runner, as broadcasts find them.

    :param epoch: under which grant messages to a shard are let in; None when they are not.
    :param unpack: gives a message its arguments, fresh ones for each: entities may change what they get.
    """

    def __init__(
        self,
        live: LiveTable,
        turns: Turns,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        epoch: Callable[[ShardId], Epoch | None],
        unpack: Unpack,
    ) -> None:
        self._live = live
        self._turns = turns
        self._loop = loop
        self._now = now
        self._epoch = epoch
        self._unpack = unpack
        self._by_shard: dict[int, list[Activation]] = {}
        self._as_of: tuple[HostedType | None, int] = (None, 0)

    def arrived(
        self,
        origin: Origin,
        sequence: int,
        message: HostedMessage,
        number: int,
        args: tuple[Any, ...] | None,
        extra: Extras | None,
        attachments: tuple[Any, ...],
    ) -> ShardId | None:
        """A message to all that live in a shard has come; returns the shard if that is not served here."""
        assert extra is not None and extra.timeout_s is not None  # a broadcast has a deadline of its own
        shard = ShardId(message.hosted.definition.options.group, number)
        if self._epoch(shard) is None or not origin.admits(shard, extra.stream):
            return shard
        now = self._now()
        part = ShardBroadcast(origin, sequence, message, now + extra.timeout_s - GRACE_S, now)
        part.particulars = Particulars(first_id=extra.message_id)
        origin.unanswered[sequence] = part
        self._take(part, number, args, extra, attachments)
        return None

    def _take(
        self,
        part: ShardBroadcast,
        number: int,
        args: tuple[Any, ...] | None,
        extra: Extras,
        attachments: tuple[Any, ...],
    ) -> None:
        """Give a shard's broadcast to the entities that live there; their counts are answered together, and later."""
        now, turns, message = self._now(), self._turns, part.message
        for place, activation in enumerate(self._living(message.hosted, number)):
            delivery = Delivery(part, place, message, activation.entity_id, args or (), part.deadline, now)
            wrong: BaseException | None = self._unpack(delivery, extra, attachments, now)
            delivery.deadline = part.deadline
            # Each has an id of its own; it is counted as a broadcast, below.
            delivery.particulars.first_id, delivery.particulars.counted = None, True  # type: ignore[union-attr]  # by unpack
            part.waiting[place] = delivery
            wrong = wrong or turns.accept(delivery, activation)
            if wrong is not None:
                del part.waiting[place]
                part.note(wrong)
                if delivery.trail is not None:
                    delivery.trail.refused(wrong)
            else:
                received = activation.hosted.received
                received["broadcast"] = received.get("broadcast", 0) + 1
        turns.crew.then(lambda: part.all_have_started(self._loop, self._now()))

    def cancel(self, part: ShardBroadcast, *, running: bool) -> None:
        """The sender wants it no more: what has not started never will, and async handlers end if `running`."""
        for delivery in list(part.waiting.values()):
            if running or not delivery.started:
                self._turns.cancel(delivery)

    def _living(self, hosted: HostedType, number: int) -> list[Activation]:
        # One pass over the live table for all shards of a broadcast, which come one after the other.
        if self._as_of != (hosted, self._live.changes):
            self._by_shard.clear()
            for activation in hosted.live.values():
                self._by_shard.setdefault(activation.shard, []).append(activation)
            if self._as_of[0] is None:
                self._loop.call_soon(self._forget)
            self._as_of = (hosted, self._live.changes)
        return [a for a in self._by_shard.get(number, ()) if _stays(a)]

    def _forget(self) -> None:
        self._by_shard.clear()
        self._as_of = (None, 0)


def _stays(activation: Activation) -> bool:
    """Whether an entity is there for the message: one that is being let go is, if others wait to meet the next one."""
    return activation.phase in (Phase.STARTING, Phase.ACTIVE) or activation.mailbox is not None
