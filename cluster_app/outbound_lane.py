"""The sender's end of a lane: numbers messages, keeps frames until they have arrived, puts answers in order.

Decides what a frame holds and what is still unanswered. Pure: no clock, no transport, no threads. Together with
`inbound_lane` it makes two reliable, ordered streams out of exchanges that may be lost, repeated or overtake each
other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from cluster_app.envelope import AnswerFrame, Extras, MessageFrame, Packed, read_answers, write
from cluster_app.exchange import Parcel
from entities.response import EntityResponse

__all__ = ["OutboundLane", "extras_of"]


class OutboundLane:
    """One sender's lane to one runner incarnation.

    :ivar queue: messages that wait for a frame.
    :ivar in_flight: sequence number to message, for those in a frame and not answered.
    :ivar granted: the latest epoch under which a shard is known to be its runner's.
    """

    def __init__(
        self, sender: str, number: int, runner_id: str, *, max_messages: int, max_bytes: int
    ) -> None:
        self.sender = sender
        self.number = number
        self.runner_id = runner_id
        self.queue: deque[EntityResponse[Any]] = deque()
        self.in_flight: dict[int, EntityResponse[Any]] = {}
        self.granted: tuple[int, int] = (0, 0)
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._next_sequence = 0
        self._next_frame = 0
        self._unreceived: dict[int, Parcel] = {}
        self._next_answer = 0
        self._early: dict[int, Parcel] = {}

    @property
    def acknowledged(self) -> int:
        """How many answer frames have arrived without a gap."""
        return self._next_answer

    @property
    def numbered(self) -> int:
        """How many messages have been put into frames, or handed over within this process."""
        return self._next_sequence

    @property
    def next_frame(self) -> int:
        """The number of the frame that will be made next."""
        return self._next_frame

    @property
    def unreceived(self) -> Iterator[Parcel]:
        """The frames that are not known to have arrived, oldest first."""
        return iter(tuple(self._unreceived.values()))

    def frame(self, now: float, default_timeout_s: float, term: int) -> tuple[Parcel, int] | None:
        """Put waiting messages into the next frame; returns it with the count of its messages, or None."""
        if not self.queue:
            return None
        kinds: dict[Any, int] = {}
        kind: list[int] = []
        ids: list[str] = []
        arguments: list[tuple[Any, ...] | None] = []
        extras: dict[int, Extras] = {}
        stand_ins: list[int] = []
        attachments: list[Any] = []
        first = sequence = self._next_sequence
        in_flight = self.in_flight
        take = self.queue.popleft
        size = 0
        sized: Packed | None = None
        youngest = 0.0
        for _ in range(min(len(self.queue), self._max_messages)):
            message = take()
            if message._settled:  # cancelled, or its time ran out, while it waited here
                continue
            route = message.route
            number = kinds.get(route.kind)
            if number is None:  # the first of its kind, or one that only stands for it
                number = kinds.setdefault(route.kind.real, len(kinds))
                stand_ins.append(len(ids))
            kind.append(number)
            ids.append(route.entity_id)
            content = message.args
            if type(content) is tuple and message.deadline is None and not route.slot.stream:
                arguments.append(content)
                youngest = message.sent_at
            else:
                extra = extras_of(message, now)
                arguments.append(None)
                if isinstance(content, Packed):
                    attachments.extend(content.attachments)
                    if (
                        content is not sized
                    ):  # the parts of a broadcast share theirs, and a frame holds it once
                        size += len(content.data)
                        sized = content
                extras[len(ids) - 1] = extra
            in_flight[sequence] = message
            message.flight = sequence
            sequence += 1
            if size > self._max_bytes:
                break
        if sequence == first:
            return None
        self._next_sequence = sequence
        frame = MessageFrame(
            self._next_frame,
            first,
            term,
            [known.names for known in kinds],
            bytes(kind) if len(kinds) <= 256 else kind,
            ids,
            arguments,
            (youngest or now) + default_timeout_s - now,
            extras,
            self._traces(first, [position for position in stand_ins if position not in extras]),
            self.granted,
        )
        parcel = Parcel(frame.number, write(frame), tuple(attachments))
        self._unreceived[frame.number] = parcel
        self._next_frame += 1
        return parcel, sequence - first

    def _traces(self, first: int, positions: list[int]) -> dict[int, str]:
        """The trace contexts of those that are part of a trace, asked for one after the other: that is faster."""
        found = {position: self.in_flight[first + position].route.kind.trace for position in positions}
        return {position: trace for position, trace in found.items() if trace is not None}

    def number_one(self, message: EntityResponse[Any]) -> int:
        """Number a message that travels without a frame, within its process."""
        sequence = self._next_sequence
        self._next_sequence += 1
        self.in_flight[sequence] = message
        message.flight = sequence
        return sequence

    def received(self, frames: int) -> None:
        """The runner has this many frames, without a gap: they need not be sent again."""
        unreceived = self._unreceived
        while unreceived:
            oldest = next(iter(unreceived))
            if oldest >= frames:
                return
            del unreceived[oldest]

    def answered(self, parcels: Iterable[Parcel]) -> Iterator[tuple[AnswerFrame, tuple[Any, ...]]]:
        """The answer frames that are due, in order and each once, with their attachments."""
        early = self._early
        for parcel in parcels:
            if parcel.number >= self._next_answer:
                early[parcel.number] = parcel
        while self._next_answer in early:
            parcel = early.pop(self._next_answer)
            self._next_answer += 1
            yield read_answers(parcel.data), parcel.attachments


def extras_of(message: EntityResponse[Any], now: float) -> Extras:
    """What a message carries beside arguments by position."""
    content, cause, route = message.args, message.cause, message.route
    packed = content if isinstance(content, Packed) else None
    message_id, counted = message.resent_as[:2] if message.resent_as is not None else (None, False)
    return Extras(
        packed.data if packed is not None else None,
        None if message.deadline is None else message.deadline - now,
        cause.chain_onwards() if cause is not None else (),
        route.kind.trace,
        route.slot.stream,
        message_id,
        counted,
        len(packed.attachments) if packed is not None else 0,
        () if packed is not None else content,
    )
