"""The shards that a runner was asked for, on their way out.

Decides when one is free: when the last of its entities has gone. Nothing more is let in meanwhile, what has not started
goes back to its senders, and what runs is waited for, with what it causes in the same shard. Which shards these are is
the coordinator's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cluster_app.admission import Admission
from cluster_app.held_up import HeldUp
from cluster_app.origin import send_back
from cluster_app.shard import ShardId
from cluster_app.tenure import Tenure
from entities.activation import Activation, Phase
from entities.address import EntityAddress
from entities.host import EntityHost

__all__ = ["LeavingShards", "running_in"]

_LOOK_S = 0.005


def running_in(activation: Activation) -> list[str]:
    """What runs in an entity, as ``Type/id.method``."""
    where = EntityAddress(activation.hosted.definition.name, activation.entity_id)
    names = [f"{where}.{delivery.message.name}" for delivery in activation.running]
    return [*names, f"{where}.on_deactivate"] if activation.phase is Phase.STOPPING else names


class LeavingShards:
    """Everything here happens on the runner's loop.

    :param admission: lets nothing in for them: they are in its `draining`.
    :ivar held_up: what they wait for.
    :ivar released: called when the coordinator should hear that some are free.
    """

    def __init__(
        self,
        tenure: Tenure,
        admission: Admission,
        host: EntityHost,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
    ) -> None:
        self.held_up = HeldUp()
        self.released: Callable[[], object] = lambda: None
        self._tenure = tenure
        self._admission = admission
        self._host = host
        self._loop = loop
        self._now = now
        self._given_up = False

    def let_go(self, shards: Iterable[ShardId]) -> None:
        """Hand shards back: refuse what comes, send back what has not started, finish what runs."""
        self._admission.draining |= set(shards)
        leaving = {(shard.group, shard.number) for shard in self._admission.draining}
        for delivery in self._host.deactivator.let_go_shards(
            lambda group, number: (group, number) in leaving, "handoff"
        ):
            send_back(delivery)
        pending: dict[ShardId, list[Activation]] = {shard: [] for shard in shards}
        for activation in self._host.live.activations():
            shard = ShardId(activation.hosted.definition.options.group, activation.shard)
            if shard in pending:
                pending[shard].append(activation)
        busy = (
            (shard, [name for one in there for name in running_in(one)]) for shard, there in pending.items()
        )
        self.held_up.asked(((shard, names) for shard, names in busy if names), self._now())
        self._loop.create_task(self._release_as_they_empty(pending))

    def give_up(self) -> None:
        """This process ends: what runs may run on for a moment, so its shards are free when that has ended."""
        self._given_up = True

    async def _release_as_they_empty(self, pending: dict[ShardId, list[Activation]]) -> None:
        """Release each shard when its last entity has gone: one that is long busy holds up its own shard only."""
        while not self._given_up:
            empty = []
            for shard, activations in pending.items():
                activations.extend(self._admission.late.pop(shard, ()))
                while activations and activations[-1].phase is Phase.GONE:
                    activations.extend(self._successors(activations.pop()))
                if not activations:
                    empty.append(shard)
                elif activations[-1].phase is Phase.ACTIVE:
                    # It came late; while one comes to life it is waited for.
                    self._host.deactivator.let_go(activations[-1], "handoff")
            for shard in empty:
                del pending[shard]
                self._tenure.released(shard)
                self.held_up.released(shard, self._now())
                self._admission.draining.discard(shard)
            if empty:
                self._admission.grants = self._tenure.grants
                self.released()
            if not pending:
                return
            await asyncio.sleep(_LOOK_S)

    def _successors(self, gone: Activation) -> list[Activation]:
        """The activation that has taken the place of one that was to leave with its shard: it is to leave as well.

        A message that was running in a process that was lost may be run again, and one that was let in late may have
        waited: that brings an entity to life.
        """
        hosted = self._host.live.hosted(gone.hosted.definition.name)
        successor = hosted.live.get(gone.entity_id) if hosted is not None else None
        return [] if successor is None else [successor]
