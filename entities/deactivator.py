"""How an entity is let go.

Decides when one that is asked to go does, what runs before, and whom it hands its waiting messages to. What asks is
elsewhere: idleness (`idle`), the entity itself, the runner whose shard leaves. One with a process of its own goes as
`supervision` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from entities.activation import Activation, Phase
from entities.activator import Activator
from entities.delivery import Delivery, current_hook
from entities.errors import ActivationFailed
from entities.idle import IdleWatch
from entities.live_table import LiveTable
from entities.turns import Turns

if TYPE_CHECKING:
    from entities.supervision import Supervision

__all__ = ["Deactivator"]


class Deactivator:
    """Lets the entities of one host go. A place is free when `gone` or `lose_shards` has said so, and no sooner.

    :ivar supervision: ends the processes of those that have one; set by the host that has any.
    """

    supervision: Supervision

    def __init__(
        self,
        live: LiveTable,
        turns: Turns,
        activator: Activator,
        idle: IdleWatch,
        now: Callable[[], float],
    ) -> None:
        self._live = live
        self._turns = turns
        self._activator = activator
        self._idle = idle
        self._now = now
        self._seen_off: dict[Activation, str] = {}  # whose hook has ended, and for what reason they go

    # -- who is to go

    def let_go(self, activation: Activation, reason: str) -> None:
        """Let an entity go as soon as nothing runs in it; what waits meets a new activation, in order."""
        if activation.phase is Phase.ACTIVE:
            activation.phase = Phase.LEAVING
            activation.reason = reason
            if not activation.running:
                self.deactivate(activation)
        elif activation.phase in (Phase.STARTING, Phase.STOPPING) and reason in ("handoff", "shutdown"):
            activation.reason = reason  # it goes as soon as it has come to life, and can't ask to stay

    def dismiss(self, name: str, entity_id: str) -> bool:
        """Let one entity go with reason explicit, asked for from outside; False when it does not live."""
        hosted = self._live.hosted(name)
        activation = None if hosted is None else hosted.live.get(entity_id)
        if activation is None:
            return False
        if activation.phase is Phase.STARTING:
            activation.reason = activation.reason or "explicit"  # it goes as soon as it has come to life
        else:
            self.let_go(activation, "explicit")
        return True

    def let_go_shards(self, shards: Callable[[str, int], bool], reason: str) -> list[Delivery]:
        """Let go every entity of these (group, shard) pairs; returns the messages that had not started, in order."""
        unstarted: list[Delivery] = []
        for activation in self._live.of_shards(shards):
            unstarted += activation.empty()
            self.let_go(activation, reason)
        return unstarted

    def lose_shards(self, shards: Callable[[str, int], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Another owner has these shards: drop their entities at once, publish nothing, run no hook.

        Returns the messages that had started and those that had not, each in order.
        """
        started: list[Delivery] = []
        unstarted: list[Delivery] = []
        for activation in self._live.of_shards(shards):
            for delivery in activation.running:
                (started if delivery.started else unstarted).append(delivery)
                delivery.cancelled = True
                if delivery.task is not None:
                    delivery.task.cancel()
            had_come_to_life = activation.phase is not Phase.STARTING
            unstarted.extend(self._activator.leave(activation))
            if activation.hosted.apart:
                self.supervision.abandon(activation)
            if had_come_to_life:
                self._live.count_gone(activation, self._seen_off.get(activation, "lost"))
        return started, unstarted

    # -- how it goes

    def deactivate(self, activation: Activation) -> None:
        """Nothing runs in one that is leaving: it goes now."""
        activation.phase = Phase.STOPPING
        if activation.hosted.apart:
            self.supervision.let_go(activation)
        elif activation.hosted.hooks[1]:
            self._turns.crew.spawn(self._deactivate_hook(activation))
        else:
            self.gone(activation, activation.reason)

    async def _deactivate_hook(self, activation: Activation) -> None:
        current_hook.set(activation)
        if not await self._turns.may_run(activation):
            return  # another owner has it, and may have what this one would let go of
        reason = activation.reason
        try:
            await activation.entity.on_deactivate(reason)
        except BaseException as raised:
            if self._turns.crew.stopped:
                raise
            logging.getLogger("entities").error("on_deactivate of %s raised", activation, exc_info=raised)
            reason = "failed"
        # What waits for it would come to life again here: only while its shard is still this host's.
        self._seen_off[activation] = reason
        may_run = await self._turns.may_run(activation)
        del self._seen_off[activation]
        if may_run and activation.phase is Phase.STOPPING:
            self.gone(activation, reason)

    def stays(self, activation: Activation, seconds: float) -> None:
        """It was asked to go for idleness, and wants to stay for so long from now."""
        if activation.reason != "idle":
            self.deactivate(activation)  # its shard is to leave by now
            return
        activation.phase, activation.reason = Phase.ACTIVE, ""
        activation.keep_until = max(activation.keep_until, self._now() + seconds)
        self._idle.add(activation, seconds)
        self._turns.next(activation)

    def gone(self, activation: Activation, reason: str | None, error: BaseException | None = None) -> None:
        """It has left its place; what waits meets a new activation.

        :param reason: why, to be counted; None for one that had not come to life.
        :param error: what kept it from coming to life.
        """
        if reason is not None:
            activation.reason = reason
        waiting = self._activator.leave(activation, error)
        if reason is not None:
            self._live.count_gone(activation, reason)
        hosted = self._live.hosted(activation.hosted.definition.name)
        assert hosted is not None  # a type stays
        for number, delivery in enumerate(waiting):
            # They were received once; a new activation takes them in the order they came.
            try:
                successor = hosted.live.get(activation.entity_id) or self._activator.activate(
                    hosted, activation.entity_id, activation.shard, activation.epoch, self._now(), delivery
                )
            except ActivationFailed as error:
                for failed in waiting[number:]:
                    failed.origin.answer(failed, None, error)
                return
            delivery.activation = successor
            renewed = hosted.messages.get(delivery.message.name)
            if renewed is not None:
                delivery.message = renewed
            refused = self._turns.queue(delivery, successor)
            if refused is not None:
                delivery.origin.answer(delivery, None, refused)
