"""The sender's side: from `.remote()` to the settled reply.

Decides which lane a message takes, when it leaves, what happens to it when a runner refuses it or dies, and when its
time is over. Any thread may send: `.remote()` only appends to `inbox`, and whoever gets the lock carries messages on
(`pump`). So the order of the inbox is the order of sending, and there is no lock per message.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from cluster_app.config import ClusterConfig
from cluster_app.coordinator import Routes
from cluster_app.deadlines import Deadlines
from cluster_app.envelope import AnswerFrame, Codec, Packed
from cluster_app.exchange import Answer, Connection, Parcel, Request, RunnerGone, Transport
from cluster_app.outbound_lane import OutboundLane
from cluster_app.reference import OutgoingMessage, Reference, arriving_at
from cluster_app.sending import KnownType, MessageKind, SendingLane, ShardSlot
from cluster_app.shard import ShardId, shard_number
from entities.address import check_entity_id
from entities.declaration import EntityDefinition, define
from entities.errors import (
    Cancelled,
    ClusterError,
    EntityNotAssignedToRunner,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    RunnerNotRegistered,
    RunnerUnavailable,
    Timeout,
    Unknown,
    describe,
)
from entities.response import EntityResponse, Settlement
from observe.instruments import cluster
from observe.recorder import Recorder

__all__ = ["Client", "Directory", "LocalRunner"]

_WINDOW = 2  # exchanges under way on a lane: one being handled while the next is made
_POLL_S = 10.0  # how long a runner may hold an exchange that only waits for answers
_OVERTAKEN_S = 0.001
_EARLY_S = 1e-6  # timers may fire a hair before their time; asking them again at once would spin
_KEEP_ALIVE_S = 5.0
_FIRST_BACKOFF_S = 0.01
_MOST_BACKOFF_S = 1.0
_HELD_S = 1.0  # held longer, a message is too far from its lane's order of age to end by it


class Directory(Protocol):
    """The coordinator, as a sender sees it. `told` is called once, on any thread; nothing blocks or raises."""

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        """Tell where the shards are, when that is not what the caller knows already."""
        ...

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        """Make a type's code known; ConnectionError if nobody answered."""
        ...


class LocalRunner(Protocol):
    """The runner in this very process, if there is one: messages to its entities touch no transport."""

    runner_id: str

    def may_leave(self) -> bool:
        """Whether messages may leave this process now."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back on the runner's loop."""
        ...

    def here(self) -> bool:
        """Whether this is the thread of the runner's loop."""
        ...

    def take(self, lane: SendingLane, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Take a message over; returns its shard if that is not served here."""
        ...

    def cancel(self, sequence: int) -> None:
        """The sender wants this message no more."""
        ...


class Client:
    """One sender incarnation.

    :param now: the clock, in seconds.
    :param alarm: asks that `tick` be called at or soon after a time of that clock.
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
    ) -> None:
        self.incarnation = incarnation
        self.inbox: deque[EntityResponse[Any]] = deque()
        self.now = now
        self.codec = codec
        self.default_timeout_s = config.message_timeout_s
        self.term = 0
        # Often enough that a sender who lives is never taken for gone.
        self._poll_s = min(_POLL_S, config.lane_silence_s / 3)
        self._keep_alive_s = min(_KEEP_ALIVE_S, config.lane_silence_s / 3)
        self._config = config
        self._transport = transport
        self._directory = directory
        self._recorder = recorder
        self._alarm = alarm
        self._local = local
        self._lock = threading.Lock()
        self._types: dict[str, KnownType] = {}
        self._kinds: dict[tuple[str, str], MessageKind] = {}
        self._counted: list[MessageKind] = []
        self._slots: dict[ShardId, ShardSlot] = {}
        self._lanes: dict[str, SendingLane] = {}
        self._lane_numbers = itertools.count()
        self._deadlines = Deadlines()
        self._routes = Routes(-1, {})
        self._gone: set[str] = set()
        self._stranded: dict[ShardId, ShardSlot] = {}
        self._asking = False
        self._ask_at = 0.0
        self._closed = False
        self._next_tick = float("inf")
        self.room_listeners: list[Callable[[], None]] = []
        self._batches_out = recorder.histogram(cluster.batch_messages, direction="out")
        self._batch_sizes: list[float] = []

    # -- what a reference needs

    def reference(self, entity_type: type[Any], entity_id: str) -> Reference:
        """A reference; raises ValueError for a bad id and TypeError for a class that is no entity."""
        return Reference(self, define(entity_type), check_entity_id(entity_id))

    # What a reference that arrives asks of where it arrives; see `reference.arriving_at`.
    entity = reference

    def outgoing(self, reference: Reference, definition: EntityDefinition, name: str) -> OutgoingMessage:
        """One message of one entity, bound to its counters and its shard."""
        known = self._known(definition)
        kind = self._kinds.get((definition.name, name))
        if kind is None or kind.of is not known:
            kind = self._kinds[definition.name, name] = MessageKind(known, name)
            self._counted.append(kind)
        shard = ShardId(
            definition.options.group,
            shard_number(definition.name, reference._address.id, self._config.shards_per_group),
        )
        slot = self._slots.get(shard)
        if slot is None:
            slot = self._slots.setdefault(shard, ShardSlot(shard))
        return OutgoingMessage(reference, self, kind, slot, None)

    def _known(self, definition: EntityDefinition) -> KnownType:
        known = self._types.get(definition.name)
        if known is None or known.definition.digest != definition.digest:
            known = self._types[definition.name] = KnownType(definition)
        return known

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        """Make the type's code known to the cluster; `told` hears how that went."""
        known = self._known(definition)
        known.asked = True

        def heard(refusal: BaseException | None) -> None:
            with self._lock:
                self._registered(known, refusal)
            self.pump()
            told(refusal)

        self._directory.register(definition, replace, heard)

    def _registered(self, known: KnownType, refusal: BaseException | None) -> None:
        if isinstance(refusal, ConnectionError):  # nobody answered: asked again, messages wait
            known.asked = False
            if known.held:
                self._wake_at(self.now() + 0.1)
        else:
            known.registered, known.refusal = refusal is None, refusal
            self.inbox.extendleft(reversed(known.held))
            # They have been counted and wait again at the front, in order, before all that came later.
            for message in known.held:
                message.flight = -1
                self._own_deadline_if_held(message)
            known.held.clear()

    # -- sending

    def pump(self) -> None:
        """Carry on what is in the inbox, unless another thread is just doing that."""
        while self.inbox and self._lock.acquire(blocking=False):
            settlement = Settlement()
            try:
                self._drain(settlement)
                self._send_all(settlement)
            finally:
                self._lock.release()
            settlement.wake()

    def _drain(self, settlement: Settlement) -> None:
        inbox = self.inbox
        take = inbox.popleft
        most = self._config.max_in_flight
        now = self.now()
        for _ in range(len(inbox)):
            message = take()
            route = message.route
            kind = route.kind
            if message.flight is None:
                kind.sent += 1
            else:
                message.flight = None  # it was held for its type, and counted then
                if message._settled:
                    continue
            if self._closed:
                over = Cancelled("the connection is closed", may_have_run=False, **_data(message))
                self._end(settlement, message, None, over, now)
                continue
            args = message.args
            if type(args) is not tuple and type(args) is not Packed:
                self._end(settlement, message, None, args, now)
                continue
            deadline = message.deadline
            if deadline is not None:
                if deadline <= now:
                    late = Timeout("it was over when it was sent", may_have_run=False, **_data(message))
                    self._end(settlement, message, None, late, now)
                    continue
                self._deadlines.add(message, deadline)
                self._wake_at(deadline)
            known = kind.of
            if not known.registered:
                self._hold_for_type(settlement, known, message, now)
                continue
            slot = route.slot
            lane = slot.lane or self._place(slot)
            if lane is None:
                if len(slot.held) >= most and _full(slot.held, most):
                    self._end(settlement, message, None, self._lane_full(message), now)
                    continue
                slot.held.append(message)
                self._stranded[slot.shard] = slot
                if deadline is None:
                    self._wake_at(message.sent_at + self.default_timeout_s)
                continue
            outbound = lane.outbound
            if len(outbound.queue) + len(outbound.in_flight) >= most:
                self._end(settlement, message, None, self._lane_full(message), now)
                continue
            outbound.queue.append(message)

    def _place(self, slot: ShardSlot) -> SendingLane | None:
        """The lane of a shard that nothing is known against: its first message need not be held, and so counts at once
        towards what the lane takes."""
        owner = self._routes.owners.get(slot.shard)
        if (
            owner is None
            or owner[0] in self._gone
            or slot.shard in self._stranded
            or slot.refused_by is not None
        ):
            return None
        slot.lane = self._lane_to(owner[0])
        return slot.lane

    def _lane_full(self, message: EntityResponse[Any]) -> ClusterError:
        return MailboxFull(
            f"{self._config.max_in_flight} messages are in flight already (max_in_flight)",
            scope="lane",
            **_data(message),
        )

    def _hold_for_type(
        self, settlement: Settlement, known: KnownType, message: EntityResponse[Any], now: float
    ) -> None:
        if known.refusal is not None:
            error = RunnerNotRegistered(str(known.refusal), **_data(message))
            error.__cause__ = known.refusal
            error.retryable = False
            self._end(settlement, message, None, error, now)
            return
        if _full(known.held, self._config.max_in_flight):
            self._end(settlement, message, None, self._lane_full(message), now)
            return
        known.held.append(message)
        if message.deadline is None:
            self._wake_at(message.sent_at + self.default_timeout_s)
        self._ask_to_register(known)

    def _ask_to_register(self, known: KnownType) -> None:
        if not known.asked:
            known.asked = True

            def heard(refusal: BaseException | None) -> None:
                with self._lock:
                    self._registered(known, refusal)
                self.pump()

            self._directory.register(known.definition, False, heard)

    def _send_all(self, settlement: Settlement) -> None:
        if self._stranded:
            self._resolve(settlement)
        if self._local is not None and not self._local.may_leave():
            return
        for lane in list(self._lanes.values()):
            if lane.outbound.queue:
                self._send(lane, settlement)

    def _send(self, lane: SendingLane, settlement: Settlement) -> None:
        if lane.local:
            self._send_locally(lane, settlement)
            return
        outbound, now = lane.outbound, self.now()
        while lane.calls < _WINDOW and lane.resume_at is None and outbound.queue:
            made = outbound.frame(now, self.default_timeout_s, self.term)
            if made is None:
                continue  # all of those have ended already; the queue is shorter now
            parcel, count = made
            self._batch_sizes.append(count)
            if lane.next_due == float("inf"):
                lane.next_due = now + self.default_timeout_s
                self._wake_at(lane.next_due)
            lane.calls += 1
            lane.unsettled[parcel.number] = -1
            self._exchange(lane, parcel)
        lane.open = lane.calls < _WINDOW and lane.resume_at is None

    def _exchange(
        self, lane: SendingLane, parcel: Parcel | None, *, resume: bool = False, wait_s: float = 0.0
    ) -> None:
        cancel, lane.cancels = tuple(lane.cancels), []
        lane.spoke_at = self.now()
        request = Request(
            self.incarnation, lane.outbound.number, parcel, lane.outbound.acknowledged, resume, wait_s, cancel
        )
        assert lane.connection is not None
        lane.connection.exchange(request, partial(self._told, lane, request))

    def _poll(self, lane: SendingLane) -> None:
        """Have somebody at the runner who brings late answers, and who notices its end when nothing else would."""
        if lane.local or lane.polling or lane.calls or lane.resume_at is not None:
            return
        if self._lanes.get(lane.outbound.runner_id) is not lane:
            return  # lost, or closed
        lane.polling = True
        self._exchange(lane, None, wait_s=self._poll_s)

    # -- answers

    def _told(self, lane: SendingLane, request: Request, answer: Answer | BaseException) -> None:
        settlement = Settlement()
        with self._lock:
            if request.parcel is not None:
                lane.calls -= 1
            elif request.wait_s:
                lane.polling = False
            if self._lanes.get(lane.outbound.runner_id) is lane:
                if isinstance(answer, RunnerGone):
                    self._lose(lane, settlement, str(answer))
                elif isinstance(answer, BaseException):
                    lane.cancels.extend(request.cancel)
                    if lane.resume_at is None:
                        lane.resume_at = self.now() + 0.05
                        lane.open = False
                        self._wake_at(lane.resume_at)
                elif answer.received < 0:
                    self._lose(lane, settlement, "it no longer knows this sender's lane", alive=True)
                else:
                    self._take(lane, request, answer, settlement)
            lane.open = lane.calls < _WINDOW and lane.resume_at is None
            self._drain(settlement)
            self._send_all(settlement)
            self._poll(lane)
        settlement.wake()
        for listener in self.room_listeners:
            listener()
        if self.inbox:
            self.pump()

    def _take(self, lane: SendingLane, request: Request, answer: Answer, settlement: Settlement) -> None:
        outbound = lane.outbound
        outbound.received(answer.received)
        for number in lane.unsettled:
            if number < answer.received:
                lane.unsettled[number] = answer.published
        now = self.now()
        for frame, attachments in outbound.answered(answer.parcels):
            self._settle_frame(lane, frame, attachments, settlement, now)
        lane.forget_settled()

    def _settle_frame(
        self,
        lane: SendingLane,
        frame: AnswerFrame,
        attachments: tuple[Any, ...],
        settlement: Settlement,
        now: float,
    ) -> None:
        pop = lane.outbound.in_flight.pop
        end = settlement.end
        sequences = frame.sequences
        if sequences is None:
            sequences = range(frame.first, frame.first + len(frame.values))  # type: ignore[assignment]  # iterated only
        special = frame.packed or frame.errors or frame.refused
        used = 0
        for position, (sequence, value) in enumerate(zip(sequences, frame.values, strict=True)):  # type: ignore[arg-type]  # never None here
            message = pop(sequence, None)
            belong = frame.references.get(position, 0)
            if special:
                mine, used = attachments[used : used + belong], used + belong
                if message is None:
                    continue
                if position in frame.refused:
                    self._refused(lane, message, sequence, taken=frame.refused[position])
                    continue
                if position in frame.errors:
                    self._end(
                        settlement, message, None, self._unpack_error(frame.errors[position], message), now
                    )
                    continue
                if position in frame.packed:
                    try:
                        value = self._unpack(Packed(frame.packed[position], mine))
                    except BaseException as raised:  # its neighbours in the frame must still get theirs
                        error = MalformedMessage(
                            f"the reply cannot be unpickled here: {describe(raised)}",
                            may_have_run=True,
                            **_data(message),
                        )
                        error.__cause__ = raised
                        self._end(settlement, message, None, error, now)
                        continue
            if message is not None:
                message.route.kind.took_ok.append(now - message.sent_at)
                end(message, value, None)

    def _unpack(self, packed: Packed) -> Any:
        token = arriving_at.set(self)  # references in it lead back by this very connection
        try:
            return self.codec.unpack(packed)
        finally:
            arriving_at.reset(token)

    def _unpack_error(self, data: bytes, message: EntityResponse[Any]) -> BaseException:
        try:
            error = self._unpack(Packed(data))
        except BaseException as raised:
            return HandlerError(f"its error cannot be unpickled here: {describe(raised)}", **_data(message))
        return error if isinstance(error, ClusterError) else Unknown(repr(error), **_data(message))

    def _end(
        self, settlement: Settlement, message: EntityResponse[Any], value: Any, error: Any, now: float
    ) -> None:
        if message._settled:
            return
        kind = message.route.kind
        if error is None:
            kind.took_ok.append(now - message.sent_at)
        else:
            kind.failed(error, now - message.sent_at)
        settlement.end(message, value, error)

    # -- this very process

    def _send_locally(self, lane: SendingLane, settlement: Settlement) -> None:
        local = self._local
        assert local is not None
        if not local.here():
            local.call_soon(self._pump_locally)
            return
        outbound = lane.outbound
        queue = outbound.queue
        while queue:
            message = queue.popleft()
            if message._settled:
                continue
            sequence = outbound.number_one(message)
            if message.deadline is None:
                lane.next_due = min(lane.next_due, message.sent_at + self.default_timeout_s)
                self._wake_at(lane.next_due)
            shard = local.take(lane, message, sequence)
            if shard is not None:
                outbound.in_flight.pop(sequence, None)
                self._refused(lane, message, sequence)

    def _pump_locally(self) -> None:
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._send_all(settlement)
        settlement.wake()
        self.pump()

    def settle_locally(
        self, lane: SendingLane, sequence: int, value: Any, error: BaseException | None
    ) -> None:
        """A message that this process's own runner took has ended."""
        settlement = Settlement()
        with self._lock:
            message = lane.outbound.in_flight.pop(sequence, None)
            if message is not None:
                self._end(settlement, message, value, error, self.now())
        settlement.wake()
        self.pump()

    # -- refusals, lost runners, routes

    def _refused(
        self, lane: SendingLane, message: EntityResponse[Any], sequence: int, taken: bool = False
    ) -> None:
        if message._settled:
            return
        slot = message.route.slot
        if slot.lane is lane:
            slot.lane = None
            slot.refusing_lane = lane
            slot.mark = lane.outbound.next_frame
            slot.refused_by = lane.outbound.runner_id
            slot.backoff_s = min(_MOST_BACKOFF_S, slot.backoff_s * 2 or _FIRST_BACKOFF_S)
            slot.retry_at = self.now() + slot.backoff_s
            self._wake_at(slot.retry_at)
            # What is queued behind and not in a frame yet is held as well.
            waiting = lane.outbound.queue
            mine = [queued for queued in waiting if queued.route.slot is slot]
            if mine:
                slot.held.extendleft(reversed(mine))
                others = [queued for queued in waiting if queued.route.slot is not slot]
                waiting.clear()
                waiting.extend(others)
        message.flight = None
        if taken:
            message.resent_as = (f"{self.incarnation}/{lane.outbound.number}:{sequence}", True)
        self._own_deadline(message)
        if slot.refusing_lane is lane:
            slot.refused.append((sequence, message))
            self._stranded[slot.shard] = slot
        else:
            # A late one: its shard's messages go elsewhere already. All that waits is younger.
            self._mark_resent(message, lane, sequence, "EntityNotAssignedToRunner")
            self._first(slot, [message])

    def _first(self, slot: ShardSlot, messages: list[EntityResponse[Any]]) -> None:
        """These go before all that has not left yet."""
        if slot.lane is not None:
            slot.lane.outbound.queue.extendleft(reversed(messages))
        else:
            slot.held.extendleft(reversed(messages))
            self._stranded[slot.shard] = slot

    def _lose(self, lane: SendingLane, settlement: Settlement, why: str, alive: bool = False) -> None:
        """The runner has ended, or has forgotten this lane: what was in flight may have run."""
        outbound = lane.outbound
        runner_id = outbound.runner_id
        del self._lanes[runner_id]
        if not alive:
            self._gone.add(runner_id)
        now = self.now()
        again: dict[ShardId, list[tuple[float, EntityResponse[Any]]]] = {}
        for sequence, message in outbound.in_flight.items():
            if message._settled:
                continue
            if message.route.kind.idempotent:
                message.flight = None
                self._mark_resent(message, lane, sequence, "RunnerUnavailable")
                again.setdefault(message.route.slot.shard, []).append((sequence, message))
            else:
                error = RunnerUnavailable(why, runner=runner_id, may_have_run=True, **_data(message))
                self._end(settlement, message, None, error, now)
        for message in outbound.queue:
            again.setdefault(message.route.slot.shard, []).append((float("inf"), message))
        outbound.in_flight.clear()
        outbound.queue.clear()
        for slot in list(self._slots.values()):  # any thread may add one
            if slot.lane is lane:
                slot.lane = None
            elif slot.refusing_lane is lane:
                # What it refused and what ran there is sent again in the order in which it was sent.
                for sequence, message in slot.refused:
                    if not message._settled:
                        self._mark_resent(message, lane, sequence, "EntityNotAssignedToRunner")
                again.setdefault(slot.shard, []).extend(slot.refused)
                slot.refused.clear()
                slot.refusing_lane = None
        for shard, messages in again.items():
            messages.sort(key=lambda pair: pair[0])
            self._first(self._slots[shard], [message for _, message in messages])

    def _mark_resent(
        self, message: EntityResponse[Any], lane: SendingLane, sequence: int, reason: str
    ) -> None:
        message.route.kind.resent(reason)
        if message.resent_as is None:
            message.resent_as = (f"{self.incarnation}/{lane.outbound.number}:{sequence}", False)
        self._own_deadline(message)

    def _own_deadline(self, message: EntityResponse[Any]) -> None:
        """A message that leaves its lane's order of age can only end in time by an entry of its own."""
        if message.deadline is None:
            message.deadline = message.sent_at + self.default_timeout_s
            self._deadlines.add(message, message.deadline)
            self._wake_at(message.deadline)

    def _own_deadline_if_held(self, message: EntityResponse[Any]) -> None:
        if message.deadline is None and self.now() - message.sent_at >= _HELD_S:
            self._own_deadline(message)

    def _resolve(self, settlement: Settlement) -> None:
        """Find lanes for the shards whose messages are held; ask who serves the rest."""
        now = self.now() + _EARLY_S
        ask = False
        for slot in list(self._stranded.values()):
            refusing = slot.refusing_lane
            if refusing is not None:
                alive = self._lanes.get(refusing.outbound.runner_id) is refusing
                if alive and not refusing.local and not refusing.settled_before(slot.mark):
                    continue  # more of its messages may come back, and belong before what is held
                for sequence, message in slot.refused:
                    if not message._settled:
                        self._mark_resent(message, refusing, sequence, "EntityNotAssignedToRunner")
                slot.refused.sort(key=lambda pair: pair[0])
                slot.held.extendleft(message for _, message in reversed(slot.refused))
                slot.refused.clear()
                slot.refusing_lane = None
                slot.stream += 1
            owner = self._routes.owners.get(slot.shard)
            if owner is None or owner[0] in self._gone:
                ask = True
                continue
            if owner[0] == slot.refused_by and now < slot.retry_at:
                self._wake_at(slot.retry_at)
                ask = True
                continue
            del self._stranded[slot.shard]
            if slot.refused_by != owner[0]:
                slot.backoff_s, slot.refused_by = 0.0, None
            slot.lane = lane = self._lane_to(owner[0])
            held, slot.held = slot.held, deque()
            for message in held:
                if message._settled:
                    continue
                if message.resent_as is None and lane.load >= self._config.max_in_flight:
                    self._end(settlement, message, None, self._lane_full(message), now)
                    continue
                self._own_deadline_if_held(message)
                lane.outbound.queue.append(message)
        if ask and not self._asking and now >= self._ask_at:
            self._asking = True
            self._directory.routes(self._routes.version, self._routes_told)
        elif ask and not self._asking:
            self._wake_at(self._ask_at)

    def _lane_to(self, runner_id: str) -> SendingLane:
        lane = self._lanes.get(runner_id)
        if lane is None:
            outbound = OutboundLane(
                self.incarnation,
                next(self._lane_numbers),
                runner_id,
                max_messages=self._config.batch_messages,
                max_bytes=self._config.batch_bytes,
            )
            local = self._local is not None and self._local.runner_id == runner_id
            connection: Connection | None = None if local else self._transport.connect(runner_id)
            lane = self._lanes[runner_id] = SendingLane(outbound, connection, local)
            self._wake_at(self.now() + self._keep_alive_s)
        return lane

    def _routes_told(self, routes: Routes | BaseException | None) -> None:
        settlement = Settlement()
        with self._lock:
            self._asking = False
            if isinstance(routes, Routes):
                self._routes = routes
                self._gone &= {owner for owner, _ in routes.owners.values()}
            elif isinstance(routes, BaseException):
                self._ask_at = self.now() + 0.1  # no coordinator just now; another one comes
            self._drain(settlement)
            self._send_all(settlement)
        settlement.wake()
        if self.inbox:
            self.pump()

    # -- time

    def _wake_at(self, when: float) -> None:
        if when < self._next_tick:
            self._next_tick = when
            self._alarm(when)

    def tick(self) -> None:
        """An alarm has rung. One that was overtaken does nothing: else each would ask for the next for ever."""
        if self._next_tick - self.now() < _OVERTAKEN_S:
            self.go_on()

    def go_on(self) -> None:
        """Do what is due: end messages whose time is over, ask again, keep lanes alive."""
        settlement = Settlement()
        with self._lock:
            now = self.now() + _EARLY_S
            self._next_tick = float("inf")
            self._drain(settlement)
            for message in self._deadlines.over(now):
                self._expire(settlement, message, now)
            self._wake_at(self._deadlines.next())
            for known in list(self._types.values()):  # any thread may add one
                self._expire_oldest(known.held, settlement, now)
                if known.held:
                    self._ask_to_register(known)
            for slot in self._stranded.values():
                self._expire_oldest(slot.held, settlement, now)
            for lane in self._lanes.values():
                self._tend(lane, settlement, now)
            self._send_all(settlement)
            for lane in self._lanes.values():
                self._poll(lane)
        settlement.wake()
        if self.inbox:
            self.pump()

    def _tend(self, lane: SendingLane, settlement: Settlement, now: float) -> None:
        if lane.next_due <= now:
            lane.next_due = min(
                self._expire_in_flight(lane, settlement, now),
                self._expire_oldest(lane.outbound.queue, settlement, now),
            )
        if lane.next_due < float("inf"):
            self._wake_at(lane.next_due)
        if lane.local:
            return
        if lane.resume_at is not None:
            if now < lane.resume_at:
                self._wake_at(lane.resume_at)
            elif not lane.calls:
                lane.resume_at = None
                lane.open = True
                again = list(lane.outbound.unreceived)
                for parcel in again:
                    lane.calls += 1
                    self._exchange(lane, parcel, resume=True)
                if not again:
                    self._exchange(lane, None, resume=True)
            else:
                lane.resume_at = now + 0.05
                self._wake_at(lane.resume_at)
        elif lane.cancels:
            self._exchange(lane, None)
        if now - lane.spoke_at >= self._keep_alive_s and not lane.polling and not lane.calls:
            self._exchange(lane, None)
        self._wake_at(now + self._keep_alive_s)

    def _expire_in_flight(self, lane: SendingLane, settlement: Settlement, now: float) -> float:
        """End what is over; returns when the next one will be. Sequence order is order of age."""
        over = []
        due = float("inf")
        for message in lane.outbound.in_flight.values():
            if message.deadline is None:
                due = message.sent_at + self.default_timeout_s
                if due > now:
                    break
                over.append(message)
                due = float("inf")
        for message in over:
            self._expire(settlement, message, now)
        return due

    def _expire_oldest(
        self, messages: deque[EntityResponse[Any]], settlement: Settlement, now: float
    ) -> float:
        due = float("inf")
        for message in messages:
            if message._settled or message.deadline is not None:
                continue
            over_at = message.sent_at + self.default_timeout_s
            if over_at > now:
                due = over_at
                self._wake_at(due)
                break
            self._expire(settlement, message, now)
        while messages and messages[0]._settled:
            messages.popleft()
        return due

    def _expire(self, settlement: Settlement, message: EntityResponse[Any], now: float) -> None:
        if message._settled:
            return
        slot = message.route.slot
        error: ClusterError
        if message.flight is not None and message.flight >= 0:
            lane = self._lane_of(message)
            if lane is not None:
                del lane.outbound.in_flight[message.flight]
            error = Timeout(may_have_run=True, **_data(message))
        elif not message.route.kind.of.registered:
            error = RunnerNotRegistered("its type was not registered before the deadline", **_data(message))
        elif slot.lane is None and slot.refused_by is not None:
            error = EntityNotAssignedToRunner(
                "the deadline came first", shard=str(slot.shard), **_data(message)
            )
        elif slot.lane is None:
            error = RunnerNotRegistered("no runner served its shard before the deadline", **_data(message))
        else:
            error = Timeout("it had not left", may_have_run=False, **_data(message))
        self._end(settlement, message, None, error, now)

    # -- the rest

    def cancel(self, message: EntityResponse[Any]) -> bool:
        """The sender of this message wants it no more."""
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._send_all(settlement)
            if message._settled:
                cancelled = False
            else:
                cancelled = True
                lane = self._lane_of(message)
                if message.flight is None or message.flight < 0:
                    error = Cancelled(may_have_run=False, **_data(message))
                    self._end(settlement, message, None, error, self.now())
                elif lane is not None:
                    if lane.local and self._local is not None:
                        self._local.call_soon(partial(self._local.cancel, message.flight))
                    else:
                        lane.cancels.append(message.flight)
                        if lane.resume_at is None:
                            self._exchange(lane, None)
        settlement.wake()
        self.pump()
        return cancelled

    def _lane_of(self, message: EntityResponse[Any]) -> SendingLane | None:
        """The lane that a message is in flight on: not always where its shard's messages go by now."""
        for lane in self._lanes.values():
            if message.flight is not None and lane.outbound.in_flight.get(message.flight) is message:
                return lane
        return None

    def load_of(self, message: OutgoingMessage, *, exactly: bool = False) -> int:
        """Messages of this sender on the lane to that entity, or held for its shard."""
        if exactly:
            with self._lock:
                return self.load_of(message)
        lane = message.slot.lane
        load = len(self.inbox) + len(message.kind.of.held)
        if lane is None:
            # Where it will go is not known, or not settled: whatever is held may go the same way.
            load += sum(len(slot.held) + len(slot.refused) for slot in list(self._stranded.values()))
            owner = self._routes.owners.get(message.slot.shard)
            lane = self._lanes.get(owner[0]) if owner is not None else None
        return load + (lane.load if lane is not None else 0)

    def load_by_entity(self) -> dict[tuple[str, str], int]:
        """This sender's unanswered messages, by entity."""
        counts: dict[tuple[str, str], int] = {}
        with self._lock:
            waiting = [*self.inbox]
            for known in self._types.values():
                waiting += known.held
            for slot in list(self._slots.values()):  # any thread may add one
                waiting += slot.held
                waiting += [message for _, message in slot.refused]
            for lane in self._lanes.values():
                waiting += [*lane.outbound.queue, *lane.outbound.in_flight.values()]
            for message in waiting:
                key = (message.route.kind.names[0], message.route.entity_id)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._send_all(settlement)
            with self._recorder.lock:
                for kind in self._counted:
                    kind.flush(self._recorder)
                self._batches_out.record_many(self._batch_sizes)
                self._batch_sizes.clear()
        settlement.wake()
        self.pump()

    def routes(self) -> Routes:
        """The last routes heard."""
        return self._routes

    def close(self) -> None:
        """End every reply that is not there and leave the lanes."""
        settlement = Settlement()
        with self._lock:
            self._drain(settlement)
            self._closed = True
            now = self.now()
            waiting: list[EntityResponse[Any]] = []
            for known in list(self._types.values()):
                waiting += known.held
                known.held.clear()
            for slot in list(self._slots.values()):
                waiting += slot.held
                waiting += [message for _, message in slot.refused]
                slot.held.clear()
                slot.refused.clear()
                slot.lane = slot.refusing_lane = None
            self._stranded.clear()
            for lane in self._lanes.values():
                waiting += lane.outbound.queue
                in_flight = list(lane.outbound.in_flight.values())
                for message in in_flight:
                    error: ClusterError = Cancelled(
                        "the connection was closed", may_have_run=True, **_data(message)
                    )
                    self._end(settlement, message, None, error, now)
                if not lane.local and lane.connection is not None:
                    request = Request(
                        self.incarnation, lane.outbound.number, None, lane.outbound.acknowledged, close=True
                    )
                    lane.connection.exchange(request, lambda _: None)
            for message in waiting:
                error = Cancelled("the connection was closed", may_have_run=False, **_data(message))
                self._end(settlement, message, None, error, now)
            self._lanes.clear()
        settlement.wake()
        self.pump()


def _full(held: deque[EntityResponse[Any]], most: int) -> bool:
    while held and held[0]._settled:  # cancelled, or over
        held.popleft()
    return len(held) >= most


def _data(message: EntityResponse[Any]) -> dict[str, Any]:
    return {"address": message.route.reference._address, "method": message.route.name}
