"""The receiver's side: hosts the entities of the shards that it is granted.

Decides which messages are let in: those of a known type to a shard it holds, under a lease that runs. What becomes of
them is the entity host's business, who may hold what the coordinator's. Everything happens on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from cluster_app.broadcast_targets import BroadcastTargets, ShardBroadcast
from cluster_app.config import ClusterConfig
from cluster_app.departure import Departure
from cluster_app.envelope import Atoms, Codec, Extras, MessageFrame, Packed, copied, read_messages
from cluster_app.exchange import Answer, Request
from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.hot_entities import HotEntities
from cluster_app.inbound_lane import InboundLane
from cluster_app.reference import arriving_at
from cluster_app.resolved import needs_objects, resolved
from cluster_app.sending import SendingLane
from cluster_app.shard import ShardId, shard_number
from cluster_app.singletons import Singletons
from cluster_app.tenure import Tenure
from entities.activation import Activation, HostedMessage, Phase
from entities.address import EntityAddress
from entities.declaration import EntityDefinition
from entities.delivery import Delivery, Particulars
from entities.errors import (
    ActivationFailed,
    Cancelled,
    MalformedMessage,
    RunnerNotRegistered,
    RunnerUnavailable,
    describe,
)
from entities.host import EntityHost, Neighbours
from entities.intake import take_in
from entities.response import EntityResponse
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
        self.draining: set[ShardId] = set()
        self._config = config
        self._loop = loop
        self._now = now
        self._codec = codec
        self._neighbours = neighbours
        self._definition = definition
        self.unloadable: dict[str, str] = {}  # registered types whose code fails here, and why
        self._recorder = recorder
        self._opened: asyncio.Future[None] | None = None
        self._lanes: dict[tuple[str, int], InboundLane] = {}
        self._swept: dict[tuple[str, int], None] = {}
        self._grants: Mapping[ShardId, Epoch] = {}
        self._local: dict[int, Delivery] = {}
        self._local_lanes: dict[int, _LocalOrigin] = {}
        self._departure = Departure(self.tenure)
        self._news_to_tell: Callable[[], object] = lambda: None
        self._departing: Callable[[], object] = lambda: None
        self.host = EntityHost(loop, now, self, recorder, neighbours, config.blocking_threads)
        self.broadcasts = BroadcastTargets(self.host, loop, now, self._serves, self._unpack)
        self.singletons = Singletons(
            self.host, loop, now, self._may_start, self.ensure, config.shards_per_group
        )
        self._batches_in = recorder.histogram(cluster.batch_messages, direction="in")
        self._batch_sizes: list[float] = []
        self.hot = HotEntities(now())
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
        self._grants = self.tenure.grants
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
        self.draining |= set(shards)
        leaving = {(shard.group, shard.number) for shard in self.draining}
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
        group = delivery.message.hosted.definition.options.group
        number = shard_number(
            delivery.message.hosted.definition.name, delivery.entity_id, self._config.shards_per_group
        )
        origin = delivery.origin
        assert isinstance(origin, InboundLane | _LocalOrigin | ShardBroadcast)
        origin.send_back(delivery, ShardId(group, number))

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
                self.draining.discard(shard)
            if empty:
                self._grants = self.tenure.grants
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
                self._cancel(delivery)
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
                    self._accept(lane, due, attachments, behind)
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

    async def ensure(self, name: str) -> None:
        """Have the code of a registered type at hand."""
        if self.host.hosted(name) is None:
            await self._learn(name)

    def _accept(
        self,
        lane: InboundLane,
        frame: MessageFrame,
        attachments: tuple[Any, ...],
        behind: list[Delivery],
    ) -> None:
        now = self._now()
        lane.next_sequence = frame.first + len(frame.ids)
        self._batch_sizes.append(len(frame.ids))
        self.hot.saw(frame, now)
        kinds = [self._kind(name, method) for name, method in frame.kinds]
        deadline = now + frame.timeout_s
        odd = _Odd(self, lane, frame, attachments, kinds, deadline, now, behind)
        take_in(
            self.host.crew,
            lane,
            frame.first,
            [kind if isinstance(kind, HostedMessage) else None for kind in kinds],
            frame.kind,
            frame.ids,
            frame.arguments,
            deadline,
            now,
            lane.unanswered,
            odd.take,
            particular=frame.extras,
            careful=odd.careful,
            behind=behind,
        )

    def settle_in(
        self,
        lane: InboundLane,
        delivery: Delivery,
        extra: Extras | None,
        attachments: tuple[Any, ...],
        *,
        careful: bool,
    ) -> bool:
        """Take one message of a known type, whatever is particular about it; False if its shard is not served here."""
        hosted = delivery.message.hosted
        entity_id = delivery.entity_id
        activation = hosted.live.get(entity_id)
        if activation is None or careful:
            shard, epoch = self._granted(hosted.definition, entity_id)
            stream = extra.stream if extra is not None else 0
            if epoch is None or not lane.admits(shard, stream):
                lane.refuse(delivery.sequence, shard, stream)
                return False
            if activation is None:
                try:
                    activation = self.host.activate(hosted, entity_id, shard[1], epoch, delivery.accepted_at)
                except ActivationFailed as failed:
                    lane.fail(delivery.sequence, failed)
                    return True
        wrong: BaseException | None = None
        if extra is not None:
            wrong = self._unpack(delivery, extra, attachments, delivery.accepted_at)
        wrong = wrong or self.host.accept(delivery, activation)
        if wrong is not None:
            lane.fail(delivery.sequence, wrong)
        else:
            lane.unanswered[delivery.sequence] = delivery
        return True

    def _serves(self, shard: ShardId) -> bool:
        return shard in self._grants and shard not in self.draining

    def _cancel(self, delivery: Delivery, *, running: bool = True) -> None:
        if isinstance(delivery, ShardBroadcast):
            self.broadcasts.cancel(delivery, running=running)
        elif running or not delivery.started:
            self.host.cancel(delivery)

    def _may_start(self, shard: ShardId) -> Epoch | None:
        return None if shard in self.draining or not self.may_leave() else self._grants.get(shard)

    def _granted(self, definition: EntityDefinition, entity_id: str) -> tuple[ShardId, Epoch | None]:
        shard = ShardId(
            definition.options.group, shard_number(definition.name, entity_id, self._config.shards_per_group)
        )
        return shard, None if shard in self.draining else self._grants.get(shard)

    def _kind(self, name: str, method: str) -> HostedMessage | Callable[[str], Exception]:
        hosted = self.host.hosted(name)
        if hosted is None:
            why = self.unloadable.get(name, "no such entity type is registered")
            return lambda entity_id: RunnerNotRegistered(
                why,
                address=EntityAddress(name, entity_id),
                runner=self.runner_id,
            )
        message = hosted.messages.get(method)
        if message is None:
            return lambda entity_id: MalformedMessage(
                "it is not a declared message", address=EntityAddress(name, entity_id), method=method
            )
        return message

    def _unpack(
        self, delivery: Delivery, extra: Extras, attachments: tuple[Any, ...], now: float
    ) -> MalformedMessage | None:
        delivery.particulars = particulars = Particulars(
            extra.chain, extra.trace, extra.message_id, extra.counted
        )
        if extra.timeout_s is not None:
            delivery.deadline = now + extra.timeout_s
        if extra.packed is None:
            return None
        token = arriving_at.set(self._neighbours)
        try:
            delivery.args, particulars.kwargs = self._codec.unpack(Packed(extra.packed, attachments))
        except BaseException as raised:
            error = MalformedMessage(
                f"its arguments cannot be unpickled on the runner: {describe(raised)}",
                address=EntityAddress(delivery.message.hosted.definition.name, delivery.entity_id),
                method=delivery.message.name,
            )
            error.__cause__ = raised
            return error
        finally:
            arriving_at.reset(token)
        if attachments:
            self._resolve_first(delivery, particulars)
        return None

    def _resolve_first(self, delivery: Delivery, particulars: Particulars) -> None:
        """A top-level reference to an object is that object to the handler, as in Ray; a nested one stays one."""
        # An entity with a process of its own gets the reference, and the object there.
        if not delivery.message.hosted.apart and needs_objects(
            self._codec.attach, delivery.args, particulars.kwargs
        ):
            particulars.prepare = partial(resolved, self._codec.attach)

    def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """Let one entity go; False when it does not live, None when its shard is not served here (any more)."""
        hosted = self.host.hosted(entity_type)
        if hosted is None:
            return False  # its code was never needed here
        _, epoch = self._granted(hosted.definition, entity_id)
        return None if epoch is None else self.host.dismiss(entity_type, entity_id)

    # -- entities of this process that send to each other

    def may_leave(self) -> bool:
        """Whether messages of this process may leave it: only while the lease runs."""
        return self._now() < self.until

    def take_locally(
        self,
        lane: SendingLane,
        message: EntityResponse[Any],
        sequence: int,
        answered: Callable[..., None],
        take_back: Callable[[SendingLane, int], None],
    ) -> ShardId | None:
        """Accept a message from this very process; returns the shard if it is not served here."""
        origin = self._local_lanes.get(lane.outbound.number)
        if origin is None:
            origin = self._local_lanes[lane.outbound.number] = _LocalOrigin(
                lane, self._local, self._codec, answered, take_back
            )
        route = message.route
        name, method = route.kind.names
        kind = self._kind(name, method)
        now = self._now()
        if not isinstance(kind, HostedMessage):
            answered(lane, sequence, None, kind(route.entity_id))
            return None
        if type(route.entity_id) is int:
            return self.broadcasts.sent_here(origin, self._local, sequence, kind, message)
        shard, epoch = self._granted(kind.hosted.definition, route.entity_id)
        if epoch is None:
            return shard
        activation = kind.hosted.live.get(route.entity_id)
        if activation is None:
            try:
                activation = self.host.activate(kind.hosted, route.entity_id, shard[1], epoch, now)
            except ActivationFailed as failed:
                answered(lane, sequence, None, failed)
                return None
        deadline = message.deadline
        if deadline is None:
            deadline = message.sent_at + self._config.message_timeout_s
        delivery = Delivery(origin, sequence, kind, route.entity_id, (), deadline, now)
        cause = message.cause
        chain = cause.chain_onwards() if cause is not None else ()
        trace = cause.trace if cause is not None else None
        if type(message.args) is Packed:
            extra = Extras(message.args.data, None, chain, trace)
            wrong = self._unpack(delivery, extra, message.args.attachments, now)
            if wrong is not None:
                answered(lane, sequence, None, wrong)
                return None
        else:
            delivery.args = message.args
            if cause is not None:
                delivery.particulars = Particulars(chain, trace)
        if not sequence * 2654435761 & 0xF0000000:  # one in 16, spread evenly
            self.hot.saw_one(name, route.entity_id, now)
        if message.resent_as is not None:  # handed back by some runner, maybe by this one
            delivery.particulars = delivery.particulars or Particulars()
            delivery.particulars.first_id, delivery.particulars.counted = message.resent_as
        refused = self.host.accept(delivery, activation)
        if refused is not None:
            answered(lane, sequence, None, refused)
        else:
            self._local[sequence] = delivery
        return None

    def cancel_locally(self, sequence: int) -> None:
        """The sender in this process wants the message no more."""
        delivery = self._local.get(sequence)
        if delivery is not None:
            self._cancel(delivery)

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
            self._cancel(delivery, running=False)

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
        yield cluster.shards, {}, float(len(self._grants) if healthy else 0)
        yield cluster.singletons, {}, float(self.singletons.living() if healthy else 0)


class _Odd:
    """The messages of one frame that need a second look: in order, as the frame has them."""

    def __init__(
        self,
        runner: Runner,
        lane: InboundLane,
        frame: MessageFrame,
        attachments: tuple[Any, ...],
        kinds: list[HostedMessage | Callable[[str], Exception]],
        deadline: float,
        now: float,
        behind: list[Delivery],
    ) -> None:
        self._behind = behind
        self._runner = runner
        self._lane = lane
        self._frame = frame
        self._attachments = attachments
        self._kinds = kinds
        self._deadline = deadline
        self._now = now
        self._used = 0
        # After a refusal every shard must be asked for: nothing may overtake what was sent back.
        self.careful = bool(lane.closed or lane.unwanted or runner.draining)

    def take(self, position: int) -> bool:
        """Take the message at this position; tells whether all after it need a look as well."""
        lane, frame = self._lane, self._frame
        sequence = frame.first + position
        entity_id = frame.ids[position]
        kind = frame.kind[position]
        message = self._kinds[kind]
        extra = frame.extras.get(position)
        mine: tuple[Any, ...] = ()
        if extra is not None and extra.references:
            mine = self._attachments[self._used : self._used + extra.references]
            self._used += extra.references
        if sequence in lane.unwanted:
            lane.unwanted.discard(sequence)
            name, method = frame.kinds[kind]
            address = EntityAddress(name, entity_id)
            lane.fail(sequence, Cancelled(address=address, method=method, may_have_run=False))
        elif not isinstance(message, HostedMessage):
            lane.fail(sequence, message(entity_id))
        elif type(entity_id) is int:  # a broadcast's part for a shard
            args = frame.arguments[position]
            if not self._runner.broadcasts.arrived(lane, sequence, message, entity_id, args, extra, mine):
                self.careful = True
        else:
            args = frame.arguments[position] or ()
            delivery = Delivery(lane, sequence, message, entity_id, args, self._deadline, self._now)
            if not self._runner.settle_in(lane, delivery, extra, mine, careful=self.careful):
                self.careful = True
            elif sequence in lane.unanswered:
                self._behind.append(delivery)
        return self.careful


class _LocalOrigin:
    """Where answers go when the sender is this very process."""

    def __init__(
        self,
        lane: SendingLane,
        unanswered: dict[int, Delivery],
        codec: Codec,
        answered: Callable[..., None],
        take_back: Callable[[SendingLane, int], None],
    ) -> None:
        self.sender = f"{lane.outbound.sender}/{lane.outbound.number}"
        self._lane = lane
        self._unanswered = unanswered
        self._codec = codec
        self._answered = answered
        self._take_back = take_back

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        if self._unanswered.pop(delivery.sequence, None) is None:
            return
        if error is None and type(value) not in Atoms:
            try:
                value = copied(value, self._codec)
            except BaseException as raised:
                error = MalformedMessage(
                    f"the reply, a {type(value).__name__}, cannot be pickled: {describe(raised)}",
                    method=delivery.message.name,
                    may_have_run=True,
                )
        self._answered(self._lane, delivery.sequence, value, error)

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        if self._unanswered.pop(delivery.sequence, None) is not None:
            self._take_back(self._lane, delivery.sequence)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
