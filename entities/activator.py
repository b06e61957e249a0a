"""How an entity comes to life.

Decides what runs before its first message, in which context, and what becomes of those that waited for it when it does
not come. Who may live here the caller has asked before; one with a process of its own is brought to life by
`supervision`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from entities.activation import Activation, HostedType, Phase
from entities.answers import activation_failed
from entities.delivery import Delivery, current_delivery, current_hook
from entities.errors import ActivationFailed
from entities.idle import IdleWatch
from entities.live_table import LiveTable
from entities.trail import Birth
from entities.turns import Turns

if TYPE_CHECKING:
    from entities.supervision import Supervision

__all__ = ["Activator"]


class Activator:
    """The activations of one host that are under way.

    :ivar births: what follows those of them that are part of a trace: few, if any.
    :ivar supervision: brings those to life that have a process of their own; set by the host that has any.
    """

    supervision: Supervision

    def __init__(self, live: LiveTable, turns: Turns, idle: IdleWatch, now: Callable[[], float]) -> None:
        self.births: dict[Activation, Birth] = {}
        self._live = live
        self._turns = turns
        self._idle = idle
        self._now = now

    def activate(
        self,
        hosted: HostedType,
        entity_id: str,
        shard: int,
        epoch: tuple[int, int],
        now: float,
        cause: Delivery | None = None,
    ) -> Activation:
        """Bring an entity to life. Raises ActivationFailed when its `__init__` does.

        :param cause: the message that it is for.
        """
        if cause is None or cause.trail is None:
            return self._activate(hosted, entity_id, shard, epoch, now)
        birth = cause.trail.birth(hosted.definition.name, entity_id)
        try:
            with birth.being_current():
                activation = self._activate(hosted, entity_id, shard, epoch, now)
        except ActivationFailed as failed:
            birth.ended(failed)
            raise
        if activation.phase is Phase.STARTING:
            self.births[activation] = birth
        else:
            birth.ended(None)
        return activation

    def _activate(
        self, hosted: HostedType, entity_id: str, shard: int, epoch: tuple[int, int], now: float
    ) -> Activation:
        if hosted.apart:
            return self.supervision.activate(hosted, entity_id, shard, epoch, now)
        cls = hosted.definition.cls
        token, outer = current_delivery.set(None), current_hook.get()
        activation: Activation | None = None
        try:
            entity = cls.__new__(cls)
            activation = Activation(hosted, entity_id, entity, shard, epoch, now)
            entity._activation = activation
            current_hook.set(activation)
            entity.__init__()  # type: ignore[misc]  # the address must be there before the user's code runs
        except BaseException as raised:
            if activation is not None:
                self._idle.left(activation)  # it may have asked for timers
            hosted.activation_took["error"].append(self._now() - now)
            raise activation_failed(hosted, entity_id, raised) from raised
        finally:
            current_hook.set(outer)
            current_delivery.reset(token)
        self._live.enter(activation)
        if hosted.hooks[0]:
            self._turns.crew.spawn(self._activate_hook(activation))
        else:
            self._activated(activation, now)
        return activation

    async def _activate_hook(self, activation: Activation) -> None:
        current_hook.set(activation)
        birth = self.births.get(activation)
        if not await self._turns.may_run(activation):
            return
        try:
            with birth.being_current() if birth is not None else nullcontext():
                await activation.entity.on_activate()
        except BaseException as raised:
            if activation.phase is Phase.GONE:
                return  # lost meanwhile: nothing of it counts, and nobody waits
            hosted = activation.hosted
            hosted.activation_took["error"].append(self._now() - activation.activated_at)
            for delivery in self.leave(activation, raised):
                delivery.origin.answer(
                    delivery, None, activation_failed(hosted, activation.entity_id, raised)
                )
            return
        if activation.phase is not Phase.GONE:
            self.came_to_life(activation)

    def came_to_life(self, activation: Activation) -> None:
        """What took its time is done: take it as activated, and start what waited for it."""
        self._activated(activation, activation.activated_at)
        if self.births:
            self._born(activation, None)
        self._turns.next(activation)

    def _activated(self, activation: Activation, since: float) -> None:
        hosted = activation.hosted
        now = self._now()
        hosted.activated += 1
        hosted.activation_took["ok"].append(now - since)
        activation.activated_at = now
        if activation.phase is Phase.STARTING:
            activation.phase = Phase.LEAVING if activation.reason else Phase.ACTIVE
        self._idle.add(activation)

    def leave(self, activation: Activation, error: BaseException | None = None) -> list[Delivery]:
        """It leaves its place, come to life or not; returns what waited for it.

        :param error: what kept it from coming to life.
        """
        waiting = activation.empty()
        if self._idle.ticking:
            self._idle.left(activation)
        if self.births:
            self._born(activation, error)
        self._live.leave(activation, error)
        return waiting

    def _born(self, activation: Activation, error: BaseException | None) -> None:
        birth = self.births.pop(activation, None)
        if birth is not None:
            birth.ended(error)
