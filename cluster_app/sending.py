"""What a sender remembers: of each kind of message, of each shard, and of each lane."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from cluster_app.exchange import Answer, Connection
from cluster_app.outbound_lane import OutboundLane
from cluster_app.shard import ShardId
from entities.declaration import EntityDefinition
from entities.response import EntityResponse
from observe.failure import classify
from observe.instruments import cluster
from observe.recorder import Recorder

__all__ = ["Counted", "KnownType", "MessageKind", "Messages", "SendingLane", "ShardSlot"]

Messages = deque[EntityResponse[Any]]


class Counted(Protocol):
    """Counts that are kept until they are flushed."""

    def flush(self, recorder: Recorder) -> None:
        """Move the counts into the recorder, whose lock the caller holds."""
        ...


class KnownType:
    """An entity type, as a sender knows it.

    :ivar registered: the cluster has its code.
    :ivar held: what was sent before that.
    :ivar refusal: why the cluster does not take its code.
    :ivar wait_s, ask_at: how long it waits after a question that nobody answered, and until when.
    """

    __slots__ = ("ask_at", "asked", "definition", "held", "refusal", "registered", "wait_s")

    def __init__(self, definition: EntityDefinition) -> None:
        self.definition = definition
        self.registered = False
        self.asked = False
        self.held: Messages = deque()
        self.refusal: BaseException | None = None
        self.wait_s = 0.0
        self.ask_at = float("-inf")


class MessageKind:
    """One method of one type: what is counted together since the last flush.

    :ivar took_ok, took_error: seconds from `.remote()` to the settled reply.
    :ivar trace: the trace context that its messages carry: see `traced_message`.
    """

    trace: str | None = None

    __slots__ = ("errors", "idempotent", "names", "of", "redelivered", "sent", "took_error", "took_ok")

    def __init__(self, of: KnownType, name: str) -> None:
        self.of = of
        self.names = (of.definition.name, name)
        self.idempotent = of.definition.messages[name].idempotent
        self.sent = 0
        self.took_ok: list[float] = []
        self.took_error: list[float] = []
        self.errors: dict[str, int] = {}
        self.redelivered: dict[str, int] = {}

    @property
    def real(self) -> MessageKind:
        """The kind that its messages have in a frame's columns."""
        return self

    def failed(self, error: BaseException, took_s: float) -> None:
        """Count one reply that ended with an error."""
        reason = classify(error)
        self.errors[reason] = self.errors.get(reason, 0) + 1
        self.took_error.append(took_s)

    def resent(self, reason: str) -> None:
        """Count one message that is sent again."""
        self.redelivered[reason] = self.redelivered.get(reason, 0) + 1

    def flush(self, recorder: Recorder) -> None:
        """Move the counts into the recorder, whose lock the caller holds."""
        labels = {"entity_type": self.names[0], "operation": "send"}
        if self.sent:
            recorder.counter(cluster.messages_sent, **labels).value += self.sent
            self.sent = 0
        if self.took_ok:
            recorder.histogram(cluster.message_latency, **labels, outcome="ok").record_many(self.took_ok)
            self.took_ok.clear()
        if self.took_error:
            recorder.histogram(cluster.message_latency, **labels, outcome="error").record_many(
                self.took_error
            )
            self.took_error.clear()
        for reason, count in self.errors.items():
            recorder.counter(cluster.errors, **labels, type=reason).value += count
        self.errors.clear()
        for reason, count in self.redelivered.items():
            recorder.counter(cluster.redeliveries, entity_type=self.names[0], reason=reason).value += count
        self.redelivered.clear()


class ShardSlot:
    """One shard: where its messages go, or why they are held.

    :ivar lane: where they go; None while nobody is known to serve the shard.
    :ivar held: what waits for that, in order.
    :ivar refused: messages that a runner sent back, with their numbers on that lane.
    :ivar refusing_lane, mark: what is in frames before `mark` of this lane may still be sent back.
    :ivar stream: how often the stream to this shard was restarted.
    :ivar epoch: under which grant its messages went there.
    :ivar refused_by: the runner that last refused one, and under which grant it should have served it.
    :ivar backoff_s, retry_at: how long that runner is left alone, unless it is granted the shard anew; and until when.
    :ivar repeats: how many of those that are held are sent again not for the first time.
    """

    __slots__ = (
        "backoff_s",
        "epoch",
        "held",
        "lane",
        "mark",
        "refused",
        "refused_by",
        "refusing_lane",
        "repeats",
        "retry_at",
        "shard",
        "stream",
    )

    def __init__(self, shard: ShardId) -> None:
        self.shard = shard
        self.lane: SendingLane | None = None
        self.held: Messages = deque()
        self.refused: list[tuple[int, EntityResponse[Any]]] = []
        self.refusing_lane: SendingLane | None = None
        self.mark = 0
        self.stream = 0
        self.epoch: tuple[int, int] = (0, 0)
        self.refused_by: tuple[str, tuple[int, int]] | None = None
        self.repeats = 0
        self.retry_at = 0.0
        self.backoff_s = 0.0


class SendingLane:
    """A lane and the exchanges that are under way on it.

    :ivar usual: how many messages waited or were in flight when the last answer came; 0 after a lull.
    :ivar patience: how many messages may wait for company before somebody carries them on; 0: a message leaves at once.
    :ivar unsettled: frames whose fate is open, each with the answer frames that must have come to know it (-1: not
        told yet).
    :ivar cancelled: sequence numbers of those in flight that their sender wants no more: they are not sent again.
    :ivar resume_at: when to ask again after a failed exchange; None when all is well.
    :ivar resume_wait_s: how long the last such wait was; 0 after an answer.
    :ivar quiet_since: when the last answer came, or that was asked for which is due next.
    :ivar poll_until: until when the runner may hold the exchange that only waits for answers.
    """

    __slots__ = (
        "calls",
        "cancelled",
        "cancels",
        "connection",
        "local",
        "next_due",
        "outbound",
        "patience",
        "poll_until",
        "polling",
        "quiet_since",
        "resume_at",
        "resume_wait_s",
        "spoke_at",
        "unsettled",
        "usual",
    )

    def __init__(self, outbound: OutboundLane, connection: Connection | None, local: bool = False) -> None:
        self.outbound = outbound
        self.connection = connection
        self.local = local
        self.patience = 0
        self.usual = 0
        self.calls = 0
        self.polling = False
        self.unsettled: dict[int, int] = {}
        self.cancels: list[int] = []
        self.cancelled: set[int] = set()
        self.resume_at: float | None = None
        self.resume_wait_s = 0.0
        self.quiet_since = 0.0
        self.poll_until = 0.0
        self.next_due = float("inf")
        self.spoke_at = 0.0

    @property
    def load(self) -> int:
        """Messages that wait on this lane or are in flight."""
        return len(self.outbound.queue) + len(self.outbound.in_flight)

    def took(self, answer: Answer) -> None:
        """What an answer says of the frames sent: which have arrived, and how many answers tell their fate."""
        self.outbound.received(answer.received)
        for number in self.unsettled:
            if number < answer.received:
                self.unsettled[number] = answer.published

    def settled_before(self, frame: int) -> bool:
        """Whether it is known what the runner refused of the frames before this one."""
        return all(number >= frame for number in self.unsettled)

    def forget_settled(self) -> None:
        """Drop the frames whose fate is known; called after every answer, so few are ever kept."""
        acknowledged = self.outbound.acknowledged
        for number in [n for n, needed in self.unsettled.items() if 0 <= needed <= acknowledged]:
            del self.unsettled[number]
