"""The runner's end of a lane: takes frames in order and each once, keeps answers until they have arrived.

Decides which frame is due, which answers are told again, and what a restarted stream lets in. Pure. What it keeps is
in proportion to what is in flight: frames that came early, answers that the sender has not acknowledged, and one
number for each shard that was refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster_app.envelope import AnswerFrame, Atoms, Codec, MessageFrame, write
from cluster_app.exchange import Parcel
from cluster_app.shard import ShardId
from entities.answers import unpicklable
from entities.delivery import Delivery

__all__ = ["InboundLane"]


class InboundLane:
    """One sender's lane, as its runner keeps it. It is where its messages' answers go.

    :ivar closed: the shards that were refused, each with the highest stream that is.
    :ivar unanswered: the accepted messages, by sequence number.
    :ivar next_sequence: the number after the last message that came.
    :ivar unwanted: messages that were cancelled before they came: exchanges may overtake each other.
    :ivar heard_at: when the sender last asked for anything.
    :ivar listener: called once when there are answers that no exchange has promised to take.
    :ivar told_to_part: its sender was told that this runner ends.
    :ivar promised: exchanges under way that will take what is there when they leave.
    """

    def __init__(self, sender: str, number: int, codec: Codec) -> None:
        self.sender = f"{sender}/{number}"
        self.unanswered: dict[int, Delivery] = {}
        self.next_sequence = 0
        self.unwanted: set[int] = set()
        self.heard_at = 0.0
        self.listener: Callable[[], None] | None = None
        self.promised = 0
        self.told_to_part = False
        self._codec = codec
        self._next_frame = 0
        self._early: dict[int, tuple[MessageFrame, tuple[Any, ...]]] = {}
        self.closed: dict[ShardId, int] = {}
        self._reopened: dict[ShardId, int] = {}  # by which stream, for shards that were closed
        self._sequences: list[int] = []
        self._values: list[Any] = []
        self._packed: dict[int, bytes] = {}
        self._errors: dict[int, bytes] = {}
        self._refused: dict[int, bool] = {}
        self._references: dict[int, int] = {}
        self._attachments: list[Any] = []
        self._next_answer = 0
        self._untold: dict[int, Parcel] = {}
        self._unacknowledged: dict[int, Parcel] = {}

    @property
    def received(self) -> int:
        """How many frames have arrived without a gap."""
        return self._next_frame

    def offer(
        self, frame: MessageFrame, attachments: tuple[Any, ...]
    ) -> list[tuple[MessageFrame, tuple[Any, ...]]]:
        """A frame has come; returns the frames that are due, in order and each once."""
        if frame.number == self._next_frame and not self._early:
            self._next_frame += 1
            return [(frame, attachments)]
        if frame.number >= self._next_frame:
            self._early[frame.number] = (frame, attachments)
        due = []
        while self._next_frame in self._early:
            due.append(self._early.pop(self._next_frame))
            self._next_frame += 1
        return due

    # -- streams

    def admits(self, shard: ShardId, stream: int) -> bool:
        """Whether messages of this stream are let in: after a refusal only a restarted stream is.

        Else a later message to the shard, already on its way, would overtake the refused one.
        """
        if not self.closed:
            return True
        closed = self.closed.get(shard)
        if closed is None:
            return True
        if stream > closed:
            del self.closed[shard]
            self._reopened[shard] = stream
            return True
        return False

    def refuse(self, sequence: int, shard: ShardId, stream: int, *, taken: bool = False) -> None:
        """This message's shard is not served here (any more, if it had been taken)."""
        self.closed[shard] = max(stream, self.closed.get(shard, -1))
        self._refused[len(self._sequences)] = taken
        self._sequences.append(sequence)
        self._values.append(None)

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        """A message that was taken and has not started goes back: its shard leaves this runner."""
        if self.unanswered.pop(delivery.sequence, None) is not None:
            # The stream that it came in on is over, were it restarted before or not.
            stream = max(self.closed.get(shard, 0), self._reopened.get(shard, 0))
            self.refuse(delivery.sequence, shard, stream, taken=True)
            if self.listener is not None and not self.promised:
                self._news()

    # -- answers

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """The message has ended."""
        sequence = delivery.sequence
        if self.unanswered.pop(sequence, None) is None:
            return
        if error is not None:
            self.fail(sequence, error)
            return
        if type(value) not in Atoms:
            # Packed now, not when the frame leaves: the entity may change what it returned.
            try:
                packed = self._codec.pack(value)
            except BaseException as raised:
                self.fail(sequence, unpicklable(delivery, value, raised))
                return
            position = len(self._sequences)
            self._packed[position] = packed.data
            if packed.attachments:
                self._references[position] = len(packed.attachments)
                self._attachments.extend(packed.attachments)
            value = None
        self._sequences.append(sequence)
        self._values.append(value)
        if self.listener is not None and not self.promised:
            self._news()

    def fail(self, sequence: int, error: BaseException) -> None:
        """The message ended with an error."""
        self._errors[len(self._sequences)] = self._codec.pack_error(error)
        self._sequences.append(sequence)
        self._values.append(None)
        if self.listener is not None and not self.promised:
            self._news()

    def publish(self) -> None:
        """Put the answers that are there into a frame."""
        sequences = self._sequences
        if not sequences:
            return
        first, count = sequences[0], len(sequences)
        in_order = sequences[-1] - first == count - 1 and sequences == list(range(first, first + count))
        frame = AnswerFrame(
            self._next_answer,
            first,
            None if in_order else sequences,
            self._values,
            self._packed,
            self._errors,
            self._refused,
            self._references,
        )
        parcel = Parcel(frame.number, write(frame), tuple(self._attachments))
        self._untold[frame.number] = self._unacknowledged[frame.number] = parcel
        self._next_answer += 1
        self._sequences, self._values, self._packed, self._errors = [], [], {}, {}
        self._refused, self._references, self._attachments = {}, {}, []

    def take(self, *, resume: bool = False) -> tuple[Parcel, ...]:
        """The answer frames to tell now; with `resume` all that are not acknowledged."""
        parcels = tuple((self._unacknowledged if resume else self._untold).values())
        self._untold.clear()
        return parcels

    def _news(self) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener()

    @property
    def published(self) -> int:
        """How many answer frames there have been."""
        return self._next_answer

    @property
    def has_news(self) -> bool:
        """Whether there is anything that no exchange has taken yet."""
        return bool(self._sequences or self._untold)

    @property
    def settled(self) -> bool:
        """Whether its sender has an answer to every message that has come, and has said so."""
        return not (self.unanswered or self._sequences or self._unacknowledged)

    def acknowledge(self, answers: int) -> None:
        """The sender has this many answer frames, without a gap."""
        for number in [n for n in self._unacknowledged if n < answers]:
            del self._unacknowledged[number]
            self._untold.pop(number, None)
