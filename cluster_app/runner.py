"""The receiver's side: hosts the entities of the shards that it is granted.

Decides which messages are let in: those of a known type to a shard it holds, under a lease that runs. What becomes of
them is the entity host's business, who may hold what the coordinator's. Everything happens on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from cluster_app.admission import Admission
from cluster_app.broadcast_targets import ShardBroadcast
from cluster_app.config import ClusterConfig
from cluster_app.departure import Departure
from cluster_app.envelope import Codec, read_messages
from cluster_app.exchange import Answer, Request
from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.inbound_lane import InboundLane
from cluster_app.local import LocalLane
from cluster_app.shard import ShardId
from cluster_app.singletons import Singletons
from cluster_app.tenure import Tenure
from entities.activation import Activation, Phase
from entities.address import EntityAddress
from entities.declaration import EntityDefinition
from entities.delivery import Delivery
from entities.errors import (
    RunnerUnavailable,
)
from entities.host import EntityHost, Neighbours
from observe.instruments import Instrument, cluster
from observe.recorder import Recorder

__all__ = ["Runner"]

_RIDE_S = 0.01  # how long answers that are there wait for those of messages in mailboxes
_MOST_SWEPT = 10_000  # lanes swept before those are of senders that have long ended


class Runner:
    """One runner incarnation.

    :param now: a clock that goes on while the machine sleeps, in seconds; the loop's timers must follow it.
    :param definition: fetches the code of an entity type from the cluster; None if it is not registered.
    """

    def __init__(
        self,
        runner_id: str,
        node_id: str,
        pid: int,
        config: ClusterConfig,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        recorder: Recorder,
        codec: Codec,
        neighbours: Neighbours,
        definition: Callable[[str], Awaitable[EntityDefinition | None]],
    ) -> None:
        self.runner_id = runner_id
        self.tenure = Tenure(runner_id, node_id, guard_s=config.guard_s, pid=pid)
        self.until = float("-inf")  # this object is the host's gate: open while the lease runs
        self.paused = False
        self._config = config
        self._loop = loop
        self._now = now
        self._codec = codec
        self._definition = definition
        self._recorder = recorder
        self._opened: asyncio.Future[None] | None = None
        self._lanes: dict[tuple[str, int], InboundLane] = {}
        self._swept: dict[tuple[str, int], None] = {}
        self._departure = Departure(self.tenure)
        self._news_to_tell: Callable[[], object] = lambda: None
        self._departing: Callable[[], object] = lambda: None
        self.host = EntityHost(loop, now, self, recorder, neighbours, config.blocking_threads)
        self.admission = Admission(runner_id, config, self.host, codec, neighbours, loop, now)
        self.singletons = Singletons(
            self.host, loop, now, self._may_start, self.ensure, config.shards_per_group
        )
        self._batches_in = recorder.histogram(cluster.batch_messages, direction="in")
        self._batch_sizes: list[float] = []
        recorder.add_gauges(self._gauges)

    # -- the lease: this runner is the gate of its host

    def opened(self) -> asyncio.Future[None]:
        """A future that is done when the lease runs again."""
        if self._opened is None or self._opened.done():
            self._opened = self._loop.create_future()
        return self._opened

    def renewal(self) -> Renewal:
        """What to ask the coordinator next, and what it should know about this runner's load. From any thread."""
        live = sum(self.host.live().values())
        return self.tenure.renewal()._replace(entities=live, idle_s=self.host.idle_s())

    def apply(self, lease: Lease, sent_at: float) -> bool:
        """Obey the coordinator's answer to a renewal sent at `sent_at`; True: renew again at once."""
        change = self.tenure.apply(lease, sent_at, self._now())
        if change.stale:
            return False
        if change.revoked:
            ended = {(shard.group, shard.number) for shard in change.revoked}
            started, unstarted = self.host.lose_shards(lambda group, number: (group, number) in ended)
            for delivery in started:
                delivery.origin.answer(delivery, None, self._fenced(delivery))
            for delivery in unstarted:
                self._send_back(delivery)
        self.admission.grants = self.tenure.grants
        if change.to_release:
            self._let_go(change.to_release)
        self.extend()
        if not change.renew_at_once and self._departure.heard(sent_at, self._now()):
            self._depart()
        if lease.singletons is not None:
            self.singletons.told(lease.singletons)
        self.singletons.look()
        return change.renew_at_once

    def leave(self) -> None:
        """Ask for all shards to be moved elsewhere, and end when that is done."""
        if self._departure.leave(self._now()):
            self._news_to_tell()

    def _depart(self) -> None:
        if not self._departure.begun:
            self._news_to_tell()
            return
        for lane in self._lanes.values():
            if lane.listener is not None:
                lane.listener()  # its sender waits for news: this is some
        self._departing()

    def extend(self) -> None:
        """Take over the end of the lease as the gate's, and open the gate if that is in the future."""
        self.until = float("-inf") if self.paused else self.tenure.lease_end
        if self._now() < self.until and self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def _let_go(self, shards: Iterable[ShardId]) -> None:
        """Hand shards back: refuse what comes, send back what has not started, finish what runs."""
        self.admission.draining |= set(shards)
        leaving = {(shard.group, shard.number) for shard in self.admission.draining}
        for delivery in self.host.let_go_shards(lambda group, number: (group, number) in leaving, "handoff"):
            self._send_back(delivery)
        pending: dict[ShardId, list[Activation]] = {shard: [] for shard in shards}
        for activation in self.host.activations():
            shard = ShardId(activation.hosted.definition.options.group, activation.shard)
            if shard in pending:
                pending[shard].append(activation)
        self._loop.create_task(self._release_as_they_empty(pending))

    def _fenced(self, delivery: Delivery) -> RunnerUnavailable:
        return RunnerUnavailable(
            "another runner was granted its shard while it ran",
            runner=self.runner_id,
            may_have_run=True,
            address=EntityAddress(delivery.message.hosted.definition.name, delivery.entity_id),
            method=delivery.message.name,
        )

    def _send_back(self, delivery: Delivery) -> None:
        activation, origin = delivery.activation, delivery.origin
        assert activation is not None  # it was accepted
        assert isinstance(origin, InboundLane | LocalLane | ShardBroadcast)
        origin.send_back(delivery, ShardId(activation.hosted.definition.options.group, activation.shard))

    async def _release_as_they_empty(self, pending: dict[ShardId, list[Activation]]) -> None:
        """Release each shard when its last entity has gone: one that is long busy holds up its own shard only."""
        while True:
            empty = []
            for shard, activations in pending.items():
                while activations and activations[-1].phase is Phase.GONE:
                    activations.pop()
                if not activations:
                    empty.append(shard)
            for shard in empty:
                del pending[shard]
                self.tenure.released(shard)
                self.admission.draining.discard(shard)
            if empty:
                self.admission.grants = self.tenure.grants
                self._news_to_tell()
            if not pending:
                return
            await asyncio.sleep(0.005)

    def on_news(self, callback: Callable[[], object]) -> None:
        """Call back when the coordinator should hear something soon: shards were let go, or this runner leaves."""
        self._news_to_tell = callback

    def on_departing(self, callback: Callable[[], object]) -> None:
        """Call back once, when this runner holds nothing and never will again: it is to end when `parted`."""
        self._departing = callback

    @property
    def parted(self) -> bool:
        """Whether every sender has taken all its answers and left; those that fell silent are swept in time."""
        return not self._lanes

    def running(self, most: int = 20) -> list[str]:
        """What runs here now, as ``Type/id.method``; so many at most, with how many more there are."""
        names = []
        for activation in self.host.activations():
            where = EntityAddress(activation.hosted.definition.name, activation.entity_id)
            names += [f"{where}.{delivery.message.name}" for delivery in activation.running]
            if activation.phase is Phase.STOPPING:
                names.append(f"{where}.on_deactivate")
        return names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]

    # -- exchanges

    async def exchange(self, request: Request) -> Answer:
        """Answer a sender: what finished within this step rides back at once, the rest when it is done."""
        key = (request.sender, request.lane)
        lane = self._lanes.get(key)
        if lane is None:
            # A lane begins with its first frames, which may overtake each other; anything else is of a lane that
            # was forgotten here, or never was.
            if (
                request.parcel is None
                or request.parcel.number >= 2
                or request.acknowledged
                or key in self._swept
            ):
                return Answer(-1, 0)
            lane = self._lanes[key] = InboundLane(request.sender, request.lane, self._codec)
        lane.heard_at = self._now()
        lane.acknowledge(request.acknowledged)
        for sequence in request.cancel:
            delivery = lane.unanswered.get(sequence)
            if delivery is not None:
                self.cancel(delivery)
            elif sequence >= lane.next_sequence:
                lane.unwanted.add(sequence)
        if request.close:
            self._forget(key, lane)
            return Answer(lane.received, lane.published)
        if request.parcel is not None:
            frame = read_messages(request.parcel.data)
            lane.promised += 1
            try:
                for name, _ in frame.kinds:
                    if self.host.hosted(name) is None:
                        await self._learn(name)
                behind: list[Delivery] = []
                for due, attachments in lane.offer(frame, request.parcel.attachments):
                    lane.next_sequence = due.first + len(due.ids)
                    self._batch_sizes.append(len(due.ids))
                    self.admission.take_frame(lane, due, attachments, behind)
                await self._stepped(behind)
            finally:
                lane.promised -= 1
        elif (
            request.wait_s
            and not lane.has_news
            and not request.resume
            and (not self._departure.begun or lane.told_to_part)
        ):
            await self._news(lane, request.wait_s)
        if self._now() >= self.until:
            await self.opened()  # suspended: nothing leaves
        if request.parcel is not None or request.wait_s or request.resume:
            lane.publish()
            lane.told_to_part = leaving = self._departure.begun
            return Answer(lane.received, lane.published, lane.take(resume=request.resume), leaving)
        lane.publish()  # the sender takes what is published for all that is known of the frames received
        return Answer(lane.received, lane.published)

    async def _stepped(self, behind: list[Delivery]) -> None:
        """Wait for the first steps of what was taken, and for a while also of what waits in mailboxes: an answer that
        rides back is spared an exchange of its own.

        :param behind: what waits there, or did; it is emptied.
        """
        stepped: asyncio.Future[None] = self._loop.create_future()
        self.host.crew.then(partial(self._ride, stepped, behind, None))
        await stepped

    def _ride(self, stepped: asyncio.Future[None], behind: list[Delivery], latest: float | None) -> bool:
        """Everything started before has had its first step; tells whether that is all there is to wait for."""
        if latest is None:
            latest = self._now() + _RIDE_S
        while behind and behind[-1].started:
            behind.pop()
        if behind and self.host.crew.has_started and self._now() < latest:
            self.host.crew.then(partial(self._ride, stepped, behind, latest))
            return False
        behind.clear()
        _done(stepped)
        return True

    async def _news(self, lane: InboundLane, wait_s: float) -> None:
        if lane.listener is not None:
            lane.listener()  # the sender asks anew, so the older question was lost
        told: asyncio.Future[None] = self._loop.create_future()
        lane.listener = listener = partial(_done, told)
        timer = self._loop.call_later(wait_s, listener)
        try:
            await told
        finally:
            timer.cancel()
            if lane.listener is listener:
                lane.listener = None

    async def _learn(self, name: str) -> None:
        definition = await self._definition(name)
        if definition is not None:
            self.host.register(definition)

    def _may_start(self, shard: ShardId) -> Epoch | None:
        return self.admission.epoch(shard) if self.may_leave() else None

    async def ensure(self, name: str) -> None:
        """Have the code of a registered type at hand."""
        if self.host.hosted(name) is None:
            await self._learn(name)

    def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """Let one entity go; False when it does not live, None when its shard is not served here (any more)."""
        hosted = self.host.hosted(entity_type)
        if hosted is None:
            return False  # its code was never needed here
        _, epoch = self.admission.epoch_of(hosted.definition, entity_id)
        return None if epoch is None else self.host.dismiss(entity_type, entity_id)

    # -- entities of this process that send to each other

    def may_leave(self) -> bool:
        """Whether messages of this process may leave it: only while the lease runs."""
        return self._now() < self.until

    def cancel(self, delivery: Delivery, *, running: bool = True) -> None:
        """Its sender wants a message no more.

        :param running: also if it has started.
        """
        if isinstance(delivery, ShardBroadcast):
            self.admission.broadcasts.cancel(delivery, running=running)
        elif running or not delivery.started:
            self.host.cancel(delivery)

    # -- the rest

    def sweep(self) -> None:
        """Forget lanes whose sender has fallen silent; what they sent and has not started never will."""
        silent_since = self._now() - self._config.lane_silence_s
        for key, lane in list(self._lanes.items()):
            if lane.heard_at < silent_since and lane.listener is None:
                self._forget(key, lane)
                # Its sender may live after all, and send its first frames again: they must not run twice.
                self._swept[key] = None
        while len(self._swept) > _MOST_SWEPT:
            del self._swept[next(iter(self._swept))]

    def _forget(self, key: tuple[str, int], lane: InboundLane) -> None:
        self._lanes.pop(key, None)
        if lane.listener is not None:
            lane.listener()  # nothing will come any more; a process that wants to end waits for all its calls
        for delivery in list(lane.unanswered.values()):
            self.cancel(delivery, running=False)

    @property
    def lanes(self) -> int:
        """How many lanes end here."""
        return len(self._lanes)

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        self.host.flush()
        with self._recorder.lock:
            self._batches_in.record_many(self._batch_sizes)
            self._batch_sizes.clear()

    async def close(self) -> None:
        """Let every entity go and stop."""
        self.singletons.end()
        await self.host.close()
        for lane in self._lanes.values():
            if lane.listener is not None:
                lane.listener()

    def _gauges(self) -> Iterable[tuple[Instrument, Mapping[str, str], float]]:
        healthy = self._now() < self.tenure.lease_end
        yield cluster.runners, {}, 1.0
        yield cluster.runners_healthy, {}, float(healthy)
        yield cluster.shards, {}, float(len(self.admission.grants) if healthy else 0)
        yield cluster.singletons, {}, float(self.singletons.living() if healthy else 0)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
