"""The receiver's side: hosts the entities of the shards that it is granted.

Decides which messages are let in: those of a known type to a shard it holds, under a lease that runs. What becomes of
them is the entity host's business, who may hold what the coordinator's. Everything happens on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from cluster_app.admission import Admission
from cluster_app.broadcast_targets import ShardBroadcast
from cluster_app.departure import Departure
from cluster_app.envelope import Codec, MessageFrame, read_messages
from cluster_app.exchange import Answer, Request
from cluster_app.first_steps import FirstSteps
from cluster_app.grant_news import GrantNews
from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.inbound_lane import InboundLane
from cluster_app.inbound_lanes import InboundLanes
from cluster_app.leaving_shards import LeavingShards, running_in
from cluster_app.origin import send_back
from cluster_app.shard import ShardId
from cluster_app.singletons import Singletons
from cluster_app.standing import USUAL, Standing
from cluster_app.tenure import Tenure
from entities.address import EntityAddress
from entities.declaration import EntityDefinition
from entities.delivery import Delivery
from entities.errors import (
    RunnerUnavailable,
)
from entities.host import EntityHost, Neighbours
from observe.instruments import Instrument, cluster
from observe.recorder import Recorder
from observe.traces import Traces, process_traces

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["Runner"]


class Runner:
    """One runner incarnation.

    :param now: a clock that goes on while the machine sleeps, in seconds; the loop's timers must follow it.
    :param definition: fetches the code of an entity type from the cluster; None if it is not registered.
    :param traces: where the spans of its messages go.
    :param standing: what its node makes of it.
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
        traces: Traces = process_traces,
        standing: Standing = USUAL,
    ) -> None:
        self.runner_id = runner_id
        self.tenure = Tenure(
            runner_id,
            node_id,
            guard_s=config.guard_s,
            pid=pid,
            weight=standing.weight,
            groups=standing.groups,
        )
        self.until = float("-inf")  # this object is the host's gate: open while the lease runs
        self.paused = False
        self._loop = loop
        self._now = now
        self._definition = definition
        self._recorder = recorder
        self._held: list[asyncio.Future[None]] = []
        self._codes: Mapping[str, str] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}  # types whose code has been replaced
        self._lanes = InboundLanes(codec, config.lane_silence_s, partial(self.cancel, running=False))
        self._grant_news = GrantNews(self.tenure, loop, now, config.lease_s / 2)
        self._departure = Departure(self.tenure)
        self._news_to_tell: Callable[[], object] = lambda: None
        self._departing: Callable[[], object] = lambda: None
        self.host = EntityHost(loop, now, self, recorder, neighbours, config.blocking_threads)
        self.admission = Admission(runner_id, config, self.host, codec, neighbours, loop, now, traces)
        self._leaving = LeavingShards(self.tenure, self.admission, self.host, loop, now)
        self._first_steps = FirstSteps(self.host.crew, loop, now)
        self.singletons = Singletons(
            self.host.live,
            self.host.activator,
            loop,
            now,
            self._may_start,
            self.ensure,
            config.shards_per_group,
        )
        self._batches_in = recorder.histogram(cluster.batch_messages, direction="in")
        self._batch_sizes: list[float] = []
        recorder.add_gauges(self._gauges)

    # -- the lease: this runner is the gate of its host

    def opened(self) -> asyncio.Future[None]:
        """A future of the caller's own that is done when the lease runs again.

        One for all would be cancelled with whoever of them is cancelled while it waits, and all others with it.
        """
        opened = self._loop.create_future()
        self._held.append(opened)
        return opened

    def renewal(self) -> Renewal:
        """What to ask the coordinator next, and what it should know about this runner's load. From any thread."""
        live = sum(self.host.live.counts().values())
        return self.tenure.renewal()._replace(
            entities=live, idle_s=self.host.live.idle_s(), held_up=self._leaving.held_up.longest
        )

    def apply(self, lease: Lease, sent_at: float) -> bool:
        """Obey the coordinator's answer to a renewal sent at `sent_at`; True: renew again at once."""
        change = self.tenure.apply(lease, sent_at, self._now())
        if lease.ended:
            self._lanes.ended(lease.ended)
        if change.stale:
            return False
        if change.revoked:
            ended = {(shard.group, shard.number) for shard in change.revoked}
            started, unstarted = self.host.deactivator.lose_shards(
                lambda group, number: (group, number) in ended
            )
            for delivery in started:
                delivery.origin.answer(delivery, None, self._fenced(delivery))
            for delivery in unstarted:
                send_back(delivery)
        self.admission.grants = self.tenure.grants
        self.admission.fenced = self.tenure.fenced
        self._grant_news.told()
        if change.to_release:
            self._leaving.let_go(change.to_release)
        self.extend()
        if not change.renew_at_once and self._departure.heard(sent_at, self._now()):
            self._depart()
        if lease.codes is not None:
            self._codes = lease.codes
            self._learn_anew()
        if lease.singletons is not None:
            self.singletons.told(lease.singletons)
        self.singletons.look()
        return change.renew_at_once

    def leave(self) -> None:
        """Ask for all shards to be moved elsewhere, and end when that is done."""
        if self._departure.leave(self._now()):
            self._news_to_tell()

    def cut_short(self) -> list[str]:
        """Wait no longer than that for what runs: hand back all that has not started, and leave.

        :returns: what runs, as `running` names it. What has not ended when `drop` is called never will.
        """
        running = self.running()
        if not self.tenure.draining:  # else it leaves by itself, when it holds nothing
            self.leave()
        self._leaving.let_go([shard for shard in self.tenure.grants if shard not in self.admission.draining])
        return running

    def drop(self) -> None:
        """Give up what runs, right before this process ends; after `cut_short`.

        Nothing starts, goes on or leaves here any more. Its senders see this process end, as with any that dies: they
        know best what may be sent again.
        """
        self.paused = True
        self._leaving.give_up()
        self.extend()
        self.host.deactivator.lose_shards(lambda group, number: True)

    def _depart(self) -> None:
        if not self._departure.begun:
            self._news_to_tell()
            return
        self._lanes.tell()  # this is news
        self._departing()

    def extend(self) -> None:
        """Take over the end of the lease as the gate's, and open the gate if that is in the future."""
        self.until = float("-inf") if self.paused else self.tenure.lease_end
        if self._held and self._now() < self.until:
            held, self._held = self._held, []
            for opened in held:
                _done(opened)

    def _fenced(self, delivery: Delivery) -> RunnerUnavailable:
        return RunnerUnavailable(
            "another runner was granted its shard while it ran",
            runner=self.runner_id,
            may_have_run=True,
            address=EntityAddress(delivery.message.hosted.definition.name, delivery.entity_id),
            method=delivery.message.name,
        )

    def on_news(self, callback: Callable[[], object]) -> None:
        """Call back when the coordinator should hear something soon: shards were let go, or this runner leaves."""
        self._news_to_tell = self._leaving.released = callback

    def on_departing(self, callback: Callable[[], object]) -> None:
        """Call back once, when this runner holds nothing and never will again: it is to end when `parted`."""
        self._departing = callback

    @property
    def parted(self) -> bool:
        """Whether every sender has taken all its answers and left; those that fell silent are swept in time."""
        return not self._lanes

    def running(self, most: int = 20) -> list[str]:
        """What runs here now, as ``Type/id.method``; so many at most, with how many more there are."""
        names = [name for activation in self.host.live.activations() for name in running_in(activation)]
        return names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]

    # -- exchanges

    async def exchange(self, request: Request) -> Answer:
        """Answer a sender: what finished within this step rides back at once, the rest when it is done."""
        key = (request.sender, request.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes.begin(request)
            if lane is None:
                return Answer(-1, 0)
        lane.heard_at = self._now()
        lane.acknowledge(request.acknowledged)
        for sequence in request.cancel:
            delivery = lane.unanswered.get(sequence)
            if delivery is not None:
                self.cancel(delivery)
            elif sequence >= lane.next_sequence:
                lane.unwanted.add(sequence)
        if request.close:
            self._lanes.forget(key)
            return Answer(lane.received, lane.published)
        if request.parcel is not None:
            frame = read_messages(request.parcel.data)
            if frame.granted > self.tenure.known:
                await self._grant_news.of(frame.granted)
                if self._lanes.get(key) is not lane:
                    return Answer(-1, 0)  # it ended meanwhile
            lane.promised += 1
            try:
                for name, _ in frame.kinds:
                    if self.host.live.hosted(name) is None:
                        await self._learn(name)
                if self._now() >= self.until:
                    # Suspended: nothing starts, and another runner may have what would come to life.
                    frame = await self._resumed(frame)
                    if self._lanes.get(key) is not lane:
                        return Answer(-1, 0)  # it was forgotten meanwhile
                behind: list[Delivery] = []
                for due, attachments in lane.offer(frame, request.parcel.attachments):
                    lane.next_sequence = due.first + len(due.ids)
                    self._batch_sizes.append(len(due.ids))
                    self.admission.take_frame(lane, due, attachments, behind)
                await self._first_steps.of(behind)
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

    async def _resumed(self, frame: MessageFrame) -> MessageFrame:
        """Wait until the lease runs; the frame as it is by then, with so much less time for its messages."""
        since = self._now()
        await self.host.crew.may_run()
        return frame.later(self._now() - since)

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
        while True:
            told = self._codes.get(name)
            definition = await self._definition(name)
            if definition is not None:
                self.host.register(definition)
            if told == self._codes.get(name):
                return  # else it was replaced while it was fetched

    def _learn_anew(self) -> None:
        """Fetch the code that was replaced: what tells all runners at once may not have reached this one."""
        for name, digest in self._codes.items():
            hosted = self.host.live.hosted(name)
            if hosted is not None and hosted.definition.digest != digest and name not in self._learning:
                self._learning[name] = task = self._loop.create_task(self._learn(name))
                task.add_done_callback(lambda _, name=name: self._learning.pop(name))  # type: ignore[misc]

    def _may_start(self, shard: ShardId) -> Epoch | None:
        return self.admission.epoch(shard) if self.may_leave() else None

    async def ensure(self, name: str) -> None:
        """Have the code of a registered type at hand."""
        if self.host.live.hosted(name) is None:
            await self._learn(name)

    def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """Let one entity go; False when it does not live, None when its shard is not served here (any more)."""
        hosted = self.host.live.hosted(entity_type)
        if hosted is None:
            return False  # its code was never needed here
        _, epoch = self.admission.epoch_of(hosted.definition, entity_id)
        return None if epoch is None else self.host.deactivator.dismiss(entity_type, entity_id)

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
            self.host.turns.cancel(delivery)

    # -- the rest

    def sweep(self) -> None:
        """Forget lanes whose sender has fallen silent; what they sent and has not started never will."""
        self._lanes.sweep(self._now(), leaving=self._departure.begun)

    @property
    def lanes(self) -> int:
        """How many lanes end here."""
        return len(self._lanes)

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        self.host.live.flush()
        with self._recorder.lock:
            self._batches_in.record_many(self._batch_sizes)
            self._batch_sizes.clear()

    async def close(self, within_s: float = 0.0) -> None:
        """Let every entity go, within so many seconds, and stop."""
        self.singletons.end()
        await self.host.close(within_s)
        self._lanes.tell()

    def _gauges(self) -> Iterable[tuple[Instrument, Mapping[str, str], float]]:
        healthy = self._now() < self.tenure.lease_end
        yield cluster.runners, {}, 1.0
        yield cluster.runners_healthy, {}, float(healthy)
        yield cluster.shards, {}, float(len(self.admission.grants) if healthy else 0)
        yield cluster.singletons, {}, float(self.singletons.living() if healthy else 0)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
