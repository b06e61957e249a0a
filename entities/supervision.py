"""The life of entities that have a process of their own, as told by the host that owns them.

Decides when such a process is started, when it may end, and what becomes of messages around either. Mailbox, order,
deadlines and idleness are the host's, as for every entity: here the handler just runs elsewhere.

An entity goes in two phases: asked to go, it takes nothing more, and says so; only when its process is proven dead
does its place become free. What arrives in between waits in its mailbox and meets the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from entities.activation import Activation, HostedType, Phase
from entities.activator import Activator
from entities.annex import Annex, Annexes, AnnexLost
from entities.answers import activation_failed, address_of, unstarted
from entities.deactivator import Deactivator
from entities.delivery import Delivery
from entities.errors import ActivationFailed, ClusterError, RunnerNotRegistered
from entities.live_table import LiveTable
from entities.turns import Turns
from observe.instruments import cluster
from observe.recorder import Recorder

__all__ = ["Supervision"]

_log = logging.getLogger("entities")

_LOOK_S = 0.25  # how often those who wait for a process to start are looked at
_BREATH_S = 0.001
_MARGIN_S = (
    0.5  # so long before its deadline a message without hope is told why: its sender would say "timeout"
)


class Supervision:
    """The activations of one host that have a process of their own."""

    def __init__(
        self,
        live: LiveTable,
        turns: Turns,
        activator: Activator,
        deactivator: Deactivator,
        annexes: Annexes,
        now: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self._live = live
        self._turns = turns
        self._activator = activator
        self._deactivator = deactivator
        self._annexes = annexes
        self._now = now
        self._recorder = recorder

    # -- coming to life

    def activate(
        self, hosted: HostedType, entity_id: str, shard: int, epoch: tuple[int, int], now: float
    ) -> Activation:
        """Begin to start a process for the entity; its messages wait meanwhile."""
        activation = Activation(hosted, entity_id, None, shard, epoch, now)  # type: ignore[arg-type]  # set below
        annex = self._annexes.annex(
            activation,
            lambda: self.lost(activation),
            lambda: self._deactivator.let_go(activation, "explicit"),
        )
        activation.entity = annex  # type: ignore[assignment]  # what stands in its place here
        self._live.enter(activation)
        self._turns.crew.spawn(self._open(activation, annex))
        return activation

    async def _open(self, activation: Activation, annex: Annex) -> None:
        birth = self._activator.births.get(activation)
        opening = asyncio.ensure_future(annex.open(birth.trace if birth is not None else None))
        error: ClusterError | None = None
        try:
            while not opening.done():
                await asyncio.wait([opening], timeout=self._next_look(activation))
                if not opening.done() and await self._given_up(activation, annex):
                    opening.cancel()
                    await asyncio.wait([opening])
            opening.result()
        except asyncio.CancelledError:
            if self._turns.crew.stopped:
                opening.cancel()
                raise
        except AnnexLost as lost:
            error = activation_failed(activation.hosted, activation.entity_id, lost)
        except (ActivationFailed, RunnerNotRegistered) as failed:
            error = failed
        except Exception as raised:
            error = activation_failed(activation.hosted, activation.entity_id, raised)
        else:
            if activation.phase is not Phase.GONE:
                self._activator.came_to_life(activation)
                if annex.ended:
                    self.lost(activation)
            return
        await self._not_opened(activation, annex, error)

    async def _not_opened(self, activation: Activation, annex: Annex, error: ClusterError | None) -> None:
        if error is not None and activation.phase is not Phase.GONE:
            activation.hosted.activation_took["error"].append(self._now() - activation.activated_at)
            for delivery in activation.empty():
                delivery.origin.answer(delivery, None, error)
        if activation.phase is Phase.STARTING:
            activation.phase = Phase.STOPPING
        await self._bury(activation, annex, None, error)

    async def _bury(
        self, activation: Activation, annex: Annex, reason: str | None, error: ClusterError | None = None
    ) -> None:
        """End its process, and then it has gone."""
        await annex.bury()
        if activation.phase is Phase.STOPPING:
            self._deactivator.gone(activation, reason, error)

    def _next_look(self, activation: Activation) -> float:
        now = self._now()
        ahead = (_told_at(delivery) - now for delivery in activation.mailbox or ())
        # Not at once again, if its time is less than a clock can tell away.
        return max(_BREATH_S, min([_LOOK_S, *(seconds for seconds in ahead if seconds > 0)]))

    async def _given_up(self, activation: Activation, annex: Annex) -> bool:
        """End the messages that nothing will come of in time; True when the process is not waited for any more."""
        if activation.reason in ("handoff", "shutdown") or activation.phase is Phase.GONE:
            return True  # its shard leaves, or has left: whoever serves it next starts another one
        now = self._now()
        if not any(_told_at(delivery) <= now for delivery in activation.mailbox or ()):
            return False
        hindrance = await annex.hindrance()
        if hindrance is None:
            for delivery in self._overdue(activation, margin=False):
                delivery.origin.answer(delivery, None, unstarted(delivery))
            return False
        for delivery in self._overdue(activation, margin=True):
            delivery.origin.answer(delivery, None, _not_started(delivery, hindrance))
        return activation.mailbox is None

    def _overdue(self, activation: Activation, *, margin: bool) -> list[Delivery]:
        now = self._now()
        overdue = [
            delivery
            for delivery in activation.mailbox or ()
            if (_told_at(delivery) if margin else delivery.deadline) <= now
        ]
        for delivery in overdue:
            self._turns.take_out(activation, delivery)
        return overdue

    # -- going

    def let_go(self, activation: Activation) -> None:
        """Nothing runs in it any more: have it go, for its `reason`."""
        self._turns.crew.spawn(self._close(activation, _annex_of(activation)))

    async def _close(self, activation: Activation, annex: Annex) -> None:
        reason = activation.reason
        try:
            left = await annex.leave(reason)
        except AnnexLost:
            reason = "lost"
        except Exception:
            _log.exception("the process of %s could not be told to leave, and is ended", activation)
            reason = "lost"
        else:
            if left.stay_s > 0:
                self._deactivator.stays(activation, left.stay_s)
                return
            reason = left.reason
        await self._bury(activation, annex, reason)

    def lost(self, activation: Activation) -> None:
        """Its process has ended by itself, or cannot be reached and is to end."""
        if activation.phase is Phase.ACTIVE or activation.phase is Phase.LEAVING:
            activation.phase = Phase.STOPPING
            self._turns.crew.spawn(self._bury(activation, _annex_of(activation), "lost"))

    def abandon(self, activation: Activation) -> None:
        """Its shard is another runner's: end the process at once, whatever it does."""
        self._turns.crew.spawn(_annex_of(activation).bury())

    def again(self, delivery: Delivery, lost: AnnexLost) -> bool:
        """Whether a message whose process was lost goes to the next one: if it had not left, or may run twice.

        It is first in the mailbox then, as it was before.
        """
        activation = delivery.activation
        assert activation is not None
        idempotent = delivery.message.declaration.idempotent
        if delivery.cancelled or activation.phase is Phase.GONE or (lost.sent and not idempotent):
            return False
        delivery.started, delivery.task = False, None
        activation.queue().put_back(delivery)
        if lost.sent:
            delivery.ran = (delivery.accepted_at, self._now())
            name = activation.hosted.definition.name
            with self._recorder.lock:
                self._recorder.counter(
                    cluster.redeliveries, entity_type=name, reason="RunnerUnavailable"
                ).value += 1
        return True


def _annex_of(activation: Activation) -> Annex:
    annex: Annex = activation.entity  # type: ignore[assignment]  # what stands in its place here
    return annex


def _told_at(delivery: Delivery) -> float:
    """When a message that has no hope is told so: a little before its time is over."""
    return delivery.deadline - min(_MARGIN_S, (delivery.deadline - delivery.accepted_at) / 5)


def _not_started(delivery: Delivery, why: str) -> RunnerNotRegistered:
    return RunnerNotRegistered(why, address=address_of(delivery), method=delivery.message.name)
