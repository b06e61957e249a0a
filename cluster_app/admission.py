"""Which messages a runner lets in: those of a known type to a shard it holds.

Decides over what comes by a lane and over what this process's own entities send, by the same rules. What becomes of a
message that was let in is the entity host's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster_app.arriving import unpacked_at
from cluster_app.broadcast_targets import BroadcastTargets
from cluster_app.envelope import Codec, Extras, MessageFrame, Packed
from cluster_app.following import follow_delivery
from cluster_app.grants import Epoch
from cluster_app.hot_entities import HotEntities
from cluster_app.inbound_lane import InboundLane
from cluster_app.origin import Origin
from cluster_app.outbound_lane import extras_of
from cluster_app.resolved import needs_objects, resolved
from cluster_app.shard import ShardId, shard_number
from entities.activation import Activation, HostedMessage
from entities.address import EntityAddress
from entities.declaration import EntityDefinition
from entities.delivery import Delivery, Particulars
from entities.errors import ActivationFailed, Cancelled, MalformedMessage, RunnerNotRegistered, describe
from entities.host import EntityHost, Neighbours
from entities.intake import take_in
from entities.response import EntityResponse
from observe.traces import Traces

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["Admission"]


class Admission:
    """One runner's gate for messages.

    :ivar grants: the shards that the runner holds.
    :ivar draining: those of them that it is handing back: nothing more is let in, but for what a handler that runs
        there has caused, and may wait for.
    :ivar late: the entities that came to life by such a message.
    :ivar fenced: frames of senders that know of no grant after this epoch are refused: all that has been taken away.
    :ivar unloadable: registered types whose code fails here, and why.
    :ivar broadcasts: the entities of this runner, as broadcasts find them.
    :ivar hot: the entities that get the most messages.

    :param traces: where the spans of messages go that are part of a trace.
    """

    def __init__(
        self,
        runner_id: str,
        config: ClusterConfig,
        host: EntityHost,
        codec: Codec,
        neighbours: Neighbours,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        traces: Traces,
    ) -> None:
        self.grants: Mapping[ShardId, Epoch] = {}
        self.draining: set[ShardId] = set()
        self.late: dict[ShardId, list[Activation]] = {}
        self.fenced: tuple[int, int] = (0, 0)
        self.unloadable: dict[str, str] = {}
        self.hot = HotEntities(now())
        self._runner_id = runner_id
        self._shards_per_group = config.shards_per_group
        self._default_timeout_s = config.message_timeout_s
        self._crew = host.crew
        self._hosted = host.live.hosted
        self._activate = host.activator.activate
        self._accept = host.turns.accept
        self._codec = codec
        self._neighbours = neighbours
        self._now = now
        self._traces = traces
        self.broadcasts = BroadcastTargets(host.live, host.turns, loop, now, self.epoch, self._unpack)

    def epoch(self, shard: ShardId) -> Epoch | None:
        """Under which grant messages to a shard are let in; None when they are not."""
        return None if shard in self.draining else self.grants.get(shard)

    def epoch_of(self, definition: EntityDefinition, entity_id: str) -> tuple[ShardId, Epoch | None]:
        """An entity's shard, and under which grant its messages are let in."""
        shard = self.shard_of(definition, entity_id)
        return shard, self.epoch(shard)

    def shard_of(self, definition: EntityDefinition, entity_id: str | int) -> ShardId:
        """An entity's shard; a broadcast goes to a shard as such, by its number."""
        if isinstance(entity_id, int):
            return ShardId(definition.options.group, entity_id)
        number = shard_number(definition.name, entity_id, self._shards_per_group)
        return ShardId(definition.options.group, number)

    # -- by a lane

    def take_frame(
        self, lane: InboundLane, frame: MessageFrame, attachments: tuple[Any, ...], behind: list[Delivery]
    ) -> None:
        """Take the messages of a frame that is due.

        :param behind: takes those that wait in mailboxes, or may.
        """
        now = self._now()
        self.hot.saw(frame, now)
        kinds = [self._message(name, method) for name, method in frame.kinds]
        deadline = now + frame.timeout_s
        odd = _Odd(self, lane, frame, attachments, kinds, deadline, now, behind)
        take_in(
            self._crew,
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
            careful=odd.careful,
            behind=behind,
        )
        # Of those taken as they came, all at once: their code is not one that the others run.
        for position, trace in frame.traces.items():
            delivery = lane.unanswered.get(frame.first + position)
            if delivery is not None and delivery.particulars is None:
                self._particular(delivery, Extras(trace=trace))
        self._crew.wake()

    # -- from this very process

    def take_locally(self, origin: Origin, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Take a message of this process's own sender; returns its shard if that is not served here."""
        route = message.route
        name, method = route.kind.names
        kind = self._message(name, method)
        if not isinstance(kind, HostedMessage):
            origin.fail(sequence, kind(route.entity_id))
            return None
        now = self._now()
        content = message.args
        args = None if type(content) is Packed else content
        attachments = content.attachments if type(content) is Packed else ()
        # What an entity sends has a call chain and its caller's deadline: these are no rare extras here.
        extra = extras_of(message, now)
        if type(route.entity_id) is int:  # a broadcast's part for a shard
            return self.broadcasts.arrived(origin, sequence, kind, route.entity_id, args, extra, attachments)
        if not sequence * 2654435761 & 0xF0000000:  # one in 16, spread evenly
            self.hot.saw_one(name, route.entity_id, now)
        deadline = message.sent_at + self._default_timeout_s  # unless it has one of its own, among the extras
        delivery = Delivery(origin, sequence, kind, route.entity_id, args or (), deadline, now)
        refused = self.take(origin, delivery, extra, attachments, careful=bool(self.draining))
        if route.timer and delivery.particulars is not None:
            delivery.particulars.timer = True
        return refused

    # -- by either way

    def take(
        self,
        origin: Origin,
        delivery: Delivery,
        extra: Extras | None,
        attachments: tuple[Any, ...],
        *,
        careful: bool,
    ) -> ShardId | None:
        """Take one message of a known type, whatever is particular about it; its shard if that is not served here.

        :param careful: ask for the grant although the entity lives.
        """
        hosted = delivery.message.hosted
        entity_id = delivery.entity_id
        activation = hosted.live.get(entity_id)
        if activation is None or careful:
            shard, epoch = self.epoch_of(hosted.definition, entity_id)
            stream, chain = (0, ()) if extra is None else (extra.stream, extra.chain)
            late = epoch is None and self.causes(shard, chain)
            if late:
                epoch = self.grants.get(shard)
            # What comes back to an entity of its chain has no place among those that wait for the entity.
            comes_back = late and (hosted.definition.name, entity_id) in [call[:2] for call in chain]
            if epoch is None or not (comes_back or origin.admits(shard, stream)):
                return shard
            if activation is None:
                if extra is not None and extra.trace is not None:
                    self._particular(delivery, extra)  # first, for it brings an entity to life
                try:
                    activation = self._activate(
                        hosted, entity_id, shard.number, epoch, delivery.accepted_at, delivery
                    )
                except ActivationFailed as failed:
                    _refused(delivery, failed)
                    origin.fail(delivery.sequence, failed)
                    return None
                if late:
                    self.late.setdefault(shard, []).append(activation)
        wrong: BaseException | None = None
        if extra is not None:
            wrong = self._unpack(delivery, extra, attachments, delivery.accepted_at)
        wrong = wrong or self._accept(delivery, activation)
        if wrong is not None:
            _refused(delivery, wrong)
            origin.fail(delivery.sequence, wrong)
        else:
            origin.unanswered[delivery.sequence] = delivery
        return None

    def causes(self, shard: ShardId, chain: tuple[tuple[str, str, str], ...]) -> bool:
        """Whether a handler that runs in this shard has caused a message with this call chain.

        The shard waits for the handler and that one, like as not, for the message: refused, they would wait for its
        deadline together.
        """
        for name, entity_id, message_id in chain:
            hosted = self._hosted(name)
            activation = None if hosted is None else hosted.live.get(entity_id)
            if (
                activation is not None
                and (activation.hosted.definition.options.group, activation.shard)
                == (shard.group, shard.number)
                and any(busy.id == message_id for busy in activation.running)
            ):
                return True
        return False

    def _message(self, name: str, method: str) -> HostedMessage | Callable[[str], Exception]:
        """A declared message; or, by entity id, why there is none."""
        hosted = self._hosted(name)
        if hosted is None:
            why = self.unloadable.get(name, "no such entity type is registered")
            return lambda entity_id: RunnerNotRegistered(
                why, address=EntityAddress(name, entity_id), runner=self._runner_id
            )
        message = hosted.messages.get(method)
        if message is None:
            return lambda entity_id: MalformedMessage(
                "it is not a declared message", address=EntityAddress(name, entity_id), method=method
            )
        return message

    def _particular(self, delivery: Delivery, extra: Extras) -> Particulars:
        delivery.particulars = particulars = Particulars(extra.chain, extra.message_id, extra.counted)
        if extra.trace is not None:
            particulars.trail = follow_delivery(
                delivery, extra.trace, self._runner_id, self._traces, self._now
            )
        return particulars

    def _unpack(
        self, delivery: Delivery, extra: Extras, attachments: tuple[Any, ...], now: float
    ) -> MalformedMessage | None:
        particulars = delivery.particulars or self._particular(delivery, extra)
        if extra.timeout_s is not None:
            delivery.deadline = now + extra.timeout_s
        if extra.packed is None:
            return None
        packed = Packed(extra.packed, attachments)
        try:
            delivery.args, particulars.kwargs = unpacked_at(self._neighbours, self._codec, packed)
        except BaseException as raised:
            error = MalformedMessage(
                f"its arguments cannot be unpickled on the runner: {describe(raised)}",
                address=EntityAddress(delivery.message.hosted.definition.name, delivery.entity_id),
                method=delivery.message.name,
            )
            error.__cause__ = raised
            return error
        # A top-level reference to an object is that object to the handler, as in Ray; a nested one stays one. An entity
        # with a process of its own gets the reference, and the object there.
        attach = self._codec.attach
        if (
            attachments
            and not delivery.message.hosted.apart
            and needs_objects(attach, delivery.args, particulars.kwargs)
        ):
            particulars.prepare = partial(resolved, attach)
        return None


def _refused(delivery: Delivery, why: BaseException) -> None:
    if delivery.trail is not None:
        delivery.trail.refused(why)


class _Odd:
    """The messages of one frame that need a second look: in order, as the frame has them."""

    def __init__(
        self,
        admission: Admission,
        lane: InboundLane,
        frame: MessageFrame,
        attachments: tuple[Any, ...],
        kinds: list[HostedMessage | Callable[[str], Exception]],
        deadline: float,
        now: float,
        behind: list[Delivery],
    ) -> None:
        self._behind = behind
        self._admission = admission
        self._lane = lane
        self._frame = frame
        self._attachments = attachments
        self._kinds = kinds
        self._deadline = deadline
        self._now = now
        self._used = 0
        # After a refusal every shard must be asked for: nothing may overtake what was sent back.
        self._fenced = (0, 0) < frame.granted <= admission.fenced
        self.careful = bool(lane.closed or lane.unwanted or admission.draining or self._fenced)

    def take(self, position: int) -> bool:
        """Take the message at this position; tells whether all after it need a look as well."""
        lane, frame = self._lane, self._frame
        sequence = frame.first + position
        entity_id = frame.ids[position]
        kind = frame.kind[position]
        message = self._kinds[kind]
        extra = frame.extras.get(position)
        if extra is None and position in frame.traces:
            extra = Extras(trace=frame.traces[position], arguments=frame.arguments[position] or ())
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
        else:
            args = frame.arguments[position] if extra is None else extra.arguments
            refused: ShardId | None
            if self._fenced:
                refused = self._admission.shard_of(message.hosted.definition, entity_id)
            elif type(entity_id) is int:  # a broadcast's part for a shard
                refused = self._admission.broadcasts.arrived(
                    lane, sequence, message, entity_id, args, extra, mine
                )
            else:
                delivery = Delivery(lane, sequence, message, entity_id, args or (), self._deadline, self._now)
                refused = self._admission.take(lane, delivery, extra, mine, careful=self.careful)
                if sequence in lane.unanswered:
                    self._behind.append(delivery)
            if refused is not None:
                lane.refuse(sequence, refused, extra.stream if extra is not None else 0)
                self.careful = True
        return self.careful
