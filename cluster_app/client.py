"""The sender's side: from `.remote()` to the settled reply.

Decides in which order messages leave. Any thread may send: `.remote()` only appends to `inbox`, and whoever gets the
lock carries messages on (`pump`). So the order of the inbox is the order of sending, and there is no lock per message.
Which lane a message takes is `routing`'s business, when it leaves `lanes`', how it ends `settling`'s and `expiry`'s.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster_app.directory import Directory
from cluster_app.envelope import Codec
from cluster_app.exchange import Answer, Request, RunnerGone, Transport
from cluster_app.expiry import Expiry
from cluster_app.lanes import Lanes
from cluster_app.local import LocalRunner
from cluster_app.local_sending import LocalSending
from cluster_app.outstanding import Outstanding
from cluster_app.reference import OutgoingMessage, Reference
from cluster_app.registration import Registration
from cluster_app.routes import Routes
from cluster_app.routing import Routing, full, lane_full
from cluster_app.sending import Counted, MessageKind, SendingLane, ShardSlot
from cluster_app.settling import Settling, about, end
from cluster_app.shard import ShardId, shard_number, shards_of
from cluster_app.timetable import EARLY_S, Timetable
from cluster_app.unserved import unserved
from entities.address import EntityAddress, check_entity_id
from entities.declaration import EntityDefinition, define
from entities.errors import Cancelled, ClusterError, Timeout
from entities.response import EntityResponse, Settlement
from observe import sampling
from observe.instruments import cluster
from observe.recorder import Recorder
from observe.traces import Traces, process_traces

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["Client"]


class Client:
    """One sender incarnation.

    :param now: the clock, in seconds.
    :param alarm: asks that `tick` be called at or soon after a time of that clock.
    :param local: the runner in this very process, if there is one.
    :param traces: where the spans of its messages go.
    :param chance: see `Timetable`.
    :ivar types: the entity types that it knows.
    :ivar outstanding: how much of its is under way.
    :ivar locally: its end of the local lane, if there is one.
    """

    def __init__(
        self,
        incarnation: str,
        config: ClusterConfig,
        transport: Transport,
        directory: Directory,
        recorder: Recorder,
        codec: Codec,
        now: Callable[[], float],
        alarm: Callable[[float], None],
        local: LocalRunner | None = None,
        traces: Traces = process_traces,
        chance: Callable[[], float] = random.random,
    ) -> None:
        sampling.begin()
        self.traces = traces
        self.incarnation = incarnation
        self.inbox: deque[EntityResponse[Any]] = deque()
        self.now = now
        self.codec = codec
        self.default_timeout_s = config.message_timeout_s
        self.room_listeners: list[Callable[[], None]] = []
        self._config = config
        self._recorder = recorder
        self._local = local
        self._lock = threading.Lock()
        self._closed = False
        self._hurried = False  # somebody waits for a reply, which has still to be looked at
        self._hurrying = False  # and will say so at the end of this turn of a loop
        self._draw = sampling.Draw()
        self._kinds: dict[tuple[str, str], MessageKind] = {}
        self._counted: list[Counted] = []
        self._batches_out = recorder.histogram(cluster.batch_messages, direction="out")
        self._timetable = timetable = Timetable(now, alarm, config.message_timeout_s, chance)
        self.types = Registration(directory, timetable, self.inbox, self._lock, self.pump)
        self._lanes = lanes = Lanes(incarnation, config, transport, timetable, local, self._told)
        self._routing = Routing(
            incarnation, lanes, directory, timetable, config.max_in_flight, self._routes_told
        )
        self._settling = Settling(codec, self, self._routing.refused)
        self.outstanding = Outstanding(self.inbox, self._lock, self.types, self._routing, lanes)
        self.locally: LocalSending | None = None
        if local is not None:
            go_on = partial(self._carry_on, _nothing)
            self.locally = LocalSending(local, self._lock, timetable, self._routing, go_on, self.pump)
        self._expiry = Expiry(timetable, lanes, partial(unserved, config))

    @property
    def term(self) -> int:
        """The highest term that this sender has heard of; every message carries it."""
        return self._lanes.term

    @term.setter
    def term(self, term: int) -> None:
        self._lanes.term = term

    # -- what a reference needs

    def reference(self, entity_type: type[Any], entity_id: str) -> Reference:
        """A reference; raises ValueError for a bad id and TypeError for a class that is no entity."""
        return Reference(self, define(entity_type), check_entity_id(entity_id))

    # What a reference that arrives asks of where it arrives; see `arriving.arriving_at`.
    entity = reference

    def outgoing(self, address: EntityAddress, definition: EntityDefinition, name: str) -> OutgoingMessage:
        """One message of one entity, bound to its counters and its shard."""
        known = self.types.known(definition)
        kind = self._kinds.get((definition.name, name))
        if kind is None or kind.of is not known:
            kind = self._kinds[definition.name, name] = MessageKind(known, name)
            self._counted.append(kind)
        number = shard_number(definition.name, address.id, self._config.shards_per_group)
        slot = self._routing.slot(ShardId(definition.options.group, number))
        return OutgoingMessage(address, self, kind, slot, None)

    def slots(self, definition: EntityDefinition) -> list[ShardSlot]:
        """All shards of a type's group."""
        shards = shards_of(definition.options.group, self._config.shards_per_group)
        return [self._routing.slot(shard) for shard in shards]

    def also_flush(self, counted: Counted) -> None:
        """Move these counts into the recorder as well whenever this sender's are."""
        self._counted.append(counted)

    # -- sending

    def pump(self) -> None:
        """Carry on what is in the inbox, unless another thread is just doing that."""
        while (self.inbox or self._hurried) and self._lock.acquire(blocking=False):
            settlement = Settlement()
            try:
                hurry, self._hurried = self._hurried, False
                self._drain(settlement)
                self._send_all(settlement, hurry=hurry)
            finally:
                self._lock.release()
            settlement.wake()

    def _drain(self, settlement: Settlement) -> None:
        inbox = self.inbox
        take = inbox.popleft
        most = self._config.max_in_flight
        now = self.now()
        count = len(inbox)
        if sampling.chance and (drawn := self._draw.among(count)):
            _begin_traces(inbox, drawn)
        for _ in range(count):
            message = take()
            route = message.route
            kind = route.kind
            if message.flight is None:
                kind.sent += 1
            else:
                message.flight = None  # it was held for its type, and counted then
                if message._settled:
                    continue
            args = message.args
            if self._closed or (type(args) is not tuple and isinstance(args, BaseException)):
                over = Cancelled("the connection is closed", may_have_run=False, **about(message))
                end(settlement, message, None, over if self._closed else args, now)
                continue
            deadline = message.deadline
            if deadline is not None:
                if deadline <= now:
                    late = Timeout("it was over when it was sent", may_have_run=False, **about(message))
                    end(settlement, message, None, late, now)
                    continue
                self._timetable.add(message, deadline)
            known = kind.of
            if not known.registered:
                if known.refusal is not None:
                    end(settlement, message, None, self.types.refusal(known, message), now)
                elif full(known.held, most):
                    end(settlement, message, None, lane_full(message, most), now)
                else:
                    self.types.hold(known, message)
                continue
            slot = route.slot
            lane = slot.lane or self._routing.place(slot)
            if lane is None and self.locally is not None and self.locally.let_in(message):
                lane = self._lanes.to(self.locally.runner_id)
            if lane is None:
                if len(slot.held) >= most and full(slot.held, most):
                    end(settlement, message, None, lane_full(message, most), now)
                else:
                    self._routing.hold(slot, message)
                continue
            outbound = lane.outbound
            if len(outbound.queue) + len(outbound.in_flight) >= most:
                end(settlement, message, None, lane_full(message, most), now)
                continue
            outbound.queue.append(message)

    def hurry(self) -> None:
        """A thread of this sender is about to wait for a reply: what waits for company need not wait any more."""
        self._hurried = True
        self.pump()

    def hurry_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """The same for a task, once all tasks of this turn of its loop have sent what they have to send."""
        if self.inbox and not self._hurrying:
            self._hurrying = True
            loop.call_soon(self._hurry_now)

    def _hurry_now(self) -> None:
        self._hurrying = False
        self.hurry()

    def _send_all(
        self, settlement: Settlement, *, hurry: bool = True, answered: SendingLane | None = None
    ) -> None:
        self._routing.resolve(settlement)
        leaves = self._local is None or self._local.may_leave()
        for lane in self._lanes:
            queue = lane.outbound.queue
            if not queue:
                continue
            if leaves and lane.local and self.locally is not None:
                self.locally.send(lane, settlement)
            elif leaves:
                idle = lane is answered and not lane.calls
                self._lanes.send(lane, hurry=hurry or idle)
            if queue:
                self._lanes.see_to_the_oldest(lane)

    def _carry_on(self, step: Callable[[Settlement], None]) -> None:
        """Do one step under the lock, and what it makes possible."""
        settlement = Settlement()
        with self._lock:
            step(settlement)
            self._drain(settlement)
            self._send_all(settlement)
        settlement.wake()
        self.pump()

    # -- answers

    def _told(self, lane: SendingLane, request: Request, answer: Answer | BaseException) -> None:
        settlement = Settlement()
        with self._lock:
            self._lanes.ended(lane, request, len(self.inbox))
            if self._lanes.has(lane):
                if isinstance(answer, RunnerGone):
                    self._routing.lose(lane, settlement, str(answer))
                elif isinstance(answer, BaseException):
                    self._lanes.failed(lane, request)
                elif answer.received < 0:
                    why = "it no longer knows this sender's lane"
                    self._routing.lose(lane, settlement, why, alive=True, keeps_state=True)
                else:
                    self._take(lane, answer, settlement)
                    if answer.published > lane.outbound.acknowledged and not (lane.calls or lane.polling):
                        # Some went astray: nobody is on the way who could bring them.
                        self._lanes.failed(lane, request)
                    if answer.leaving:
                        self._routing.part(lane)
            self._drain(settlement)
            self._send_all(settlement, hurry=False, answered=lane)
            self._lanes.poll(lane)
        settlement.wake()
        for listener in self.room_listeners:
            listener()
        self.pump()

    def _take(self, lane: SendingLane, answer: Answer, settlement: Settlement) -> None:
        lane.took(answer)
        lane.quiet_since = now = self.now()
        lane.resume_wait_s = 0.0
        for frame, attachments in lane.outbound.answered(answer.parcels):
            self._settling.frame(lane, frame, attachments, settlement, now)
        lane.forget_settled()

    def _routes_told(self, routes: Routes | BaseException | None) -> None:
        self._carry_on(lambda settlement: self._routing.heard(routes, settlement))

    # -- time

    def tick(self) -> None:
        """An alarm has rung. One that was overtaken does nothing: else each would ask for the next for ever."""
        if not self._timetable.overtaken:
            self.go_on()

    def go_on(self) -> None:
        """Do what is due: end messages whose time is over, ask again, keep lanes alive."""
        settlement = Settlement()
        with self._lock:
            now = self.now() + EARLY_S
            self._timetable.begin()
            self._drain(settlement)
            self._expiry.deadlines(settlement, now)
            for known in self.types:
                self._expiry.oldest(known.held, settlement, now)
                if known.held:
                    self.types.ask(known)
            for slot in self._routing.stranded:
                self._expiry.oldest(slot.held, settlement, now)
            for lane in self._lanes:
                self._expiry.lane(lane, settlement, now)
                self._lanes.tend(lane, now)
            self._routing.watch(now)
            self._send_all(settlement)
            for lane in self._lanes:
                self._lanes.poll(lane)
        settlement.wake()
        self.pump()

    # -- the rest

    def cancel(self, message: EntityResponse[Any]) -> bool:
        """The sender of this message wants it no more."""
        if (
            self._local is not None
            and self.locally is not None
            and self.locally.handing_over
            and self._local.here()
        ):
            # An entity's `__init__` says so, which this sender runs just now while it hands another message over.
            self._local.call_soon(partial(self.cancel, message))
            return not message._settled
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._send_all(settlement)
            cancelled = not message._settled
            if cancelled:
                self._cancel(message, settlement)
        settlement.wake()
        self.pump()
        return cancelled

    def _cancel(self, message: EntityResponse[Any], settlement: Settlement) -> None:
        if message.flight is None or message.flight < 0:
            error = Cancelled(may_have_run=False, **about(message))
            end(settlement, message, None, error, self.now())
            return
        lane = self._lanes.of(message)
        if lane is None:
            return
        lane.cancelled.add(message.flight)
        if lane.local and self._local is not None:
            self._local.call_soon(partial(self._local.cancel, message.flight))
            return
        lane.cancels.append(message.flight)
        if lane.resume_at is None:
            self._lanes.exchange(lane, None)

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._send_all(settlement)
            with self._recorder.lock:
                for kind in self._counted:
                    kind.flush(self._recorder)
                self._batches_out.record_many(self._lanes.sizes)
                self._lanes.sizes.clear()
        settlement.wake()
        self.pump()

    def close(self) -> None:
        """End every reply that is not there and leave the lanes."""
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._closed = True
            now = self.now()
            why = "the connection was closed"
            error: ClusterError
            for lane in self._lanes:
                for message in list(lane.outbound.in_flight.values()):
                    error = Cancelled(why, may_have_run=True, **about(message))
                    end(settlement, message, None, error, now)
            for message in self.outstanding.waiting():
                error = Cancelled(why, may_have_run=False, **about(message))
                end(settlement, message, None, error, now)
            for known in self.types:
                known.held.clear()
            self._routing.close()
            self._lanes.close()
        settlement.wake()
        self.pump()


def _begin_traces(messages: Sequence[EntityResponse[Any]], drawn: list[int]) -> None:
    from cluster_app.traced_message import begin_traces  # few processes need it

    begin_traces(messages, drawn)


def _nothing(settlement: Settlement) -> None:
    """Carry on with what there is."""
