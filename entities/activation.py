"""One live instance of an entity, and the type it belongs to, as the host keeps them.

Decides what the host must remember of each, and nothing else: a node holds a million activations, so every slot is
a slot times a million.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from entities.annex import hand_on
from entities.declaration import EntityDefinition, MessageDeclaration
from entities.delivery import Delivery
from entities.mailbox import Mailbox
from entities.slow_handlers import SLOW_S
from observe.instruments import LATENCY_EDGES_S, cluster
from observe.recorder import HistogramCell, Recorder

if TYPE_CHECKING:
    from entities.entity_class import Entity
    from entities.host import EntityHost

__all__ = ["Activation", "HostedMessage", "HostedType", "Phase"]

# The first bucket of handler durations in which all are slow.
_SLOW = LATENCY_EDGES_S.index(SLOW_S) + 1


class Phase(enum.Enum):
    """Where an activation is in its life."""

    STARTING = "starting"
    ACTIVE = "active"
    LEAVING = "leaving"  # takes nothing new; goes as soon as nothing runs
    STOPPING = "stopping"  # on_deactivate is running
    GONE = "gone"


class Activation:
    """One live entity.

    :ivar running: the messages being handled.
    :ivar mailbox: the messages that wait; None when none do.
    :ivar touched_at: when it last handled a message; with the type's idle time it says when to let it go.
    :ivar keep_until: not to be let go for idleness before.
    :ivar reason: why it is leaving, once it is.
    """

    __slots__ = (
        "activated_at",
        "entity",
        "entity_id",
        "epoch",
        "hosted",
        "keep_until",
        "mailbox",
        "phase",
        "reason",
        "running",
        "shard",
        "touched_at",
    )

    def __init__(
        self,
        hosted: HostedType,
        entity_id: str,
        entity: Entity,
        shard: int,
        epoch: tuple[int, int],
        now: float,
    ) -> None:
        self.hosted = hosted
        self.entity_id = entity_id
        self.entity = entity
        self.shard = shard
        self.epoch = epoch
        self.phase = Phase.STARTING
        self.running: tuple[Delivery, ...] = ()
        self.mailbox: Mailbox[Delivery] | None = None
        self.touched_at = now
        self.activated_at = now
        self.keep_until = 0.0
        self.reason = ""

    def queue(self) -> Mailbox[Delivery]:
        """Its mailbox, made if nothing waits yet."""
        if self.mailbox is None:
            self.mailbox = Mailbox(self.hosted.definition.options.mailbox_capacity)
            self.hosted.waiting[self.entity_id] = self
        return self.mailbox

    def empty(self) -> list[Delivery]:
        """Take out all that waits, in order."""
        waiting, self.mailbox = self.mailbox, None
        self.hosted.waiting.pop(self.entity_id, None)
        return list(waiting or ())

    def __str__(self) -> str:
        return f"{self.hosted.definition.name}/{self.entity_id}"


class HostedMessage:
    """One message of a hosted type: its declaration, unpacked for speed, and what was measured since the last flush.

    :ivar live: the type's live table.
    :ivar minimum, maximum: how many arguments by position it takes.
    :ivar waited: the type's list of seconds in mailboxes.
    :ivar on_thread: it runs on a thread, and its deliveries know when they ran.
    :ivar took_ok, took_error: handler durations, seconds.
    :ivar long_suspended: how many of these that are above `SLOW_S` did not hold the loop all the time.
    :ivar counted_early: how many of them were counted as slow before they ended.
    """

    __slots__ = (
        "_cells",
        "counted_early",
        "declaration",
        "function",
        "hosted",
        "is_async",
        "live",
        "long_suspended",
        "maximum",
        "minimum",
        "name",
        "on_thread",
        "took_error",
        "took_ok",
        "waited",
    )

    def __init__(self, hosted: HostedType, declaration: MessageDeclaration) -> None:
        self.hosted = hosted
        self.declaration = declaration
        self.name = declaration.name
        self.function: Callable[..., Any] = declaration.function
        self.is_async = declaration.is_async
        self.live = hosted.live
        self.minimum = declaration.minimum
        self.maximum = declaration.maximum
        self.waited = hosted.waited
        self.on_thread = declaration.blocking and not hosted.apart
        if hosted.apart:  # it runs elsewhere, and is waited for here
            self.function, self.is_async = hand_on, True
        elif self.on_thread:  # to the crew it is a coroutine that waits for a thread
            self.function = hosted.host.threads.carrying(declaration.function)
            self.is_async = True
        self.took_ok: list[float] = []
        self.took_error: list[float] = []
        self.long_suspended = 0
        self.counted_early = 0
        self._cells: dict[str, HistogramCell] = {}

    def flush(self, recorder: Recorder) -> None:
        """Move what was measured into the recorder, whose lock the caller holds."""
        long, longest_s = 0, 0.0
        for outcome, took in (("ok", self.took_ok), ("error", self.took_error)):
            if took:
                cell = self._cell(recorder, outcome)
                before = sum(cell.counts[_SLOW:])
                cell.record_many(took)
                long += sum(cell.counts[_SLOW:]) - before
                longest_s = max(longest_s, *took) if long else 0.0
                took.clear()
        # What took long in one go has held the loop; the rest of what took long is known.
        stalls = long - self.long_suspended - self.counted_early
        self.long_suspended = self.counted_early = 0
        if stalls > 0:
            self.hosted.host.slow.finished(self, stalls, longest_s)

    def _cell(self, recorder: Recorder, outcome: str) -> HistogramCell:
        cell = self._cells.get(outcome)
        if cell is None:
            cell = self._cells[outcome] = recorder.histogram(
                cluster.handler_duration,
                entity_type=self.hosted.definition.name,
                method=self.name,
                outcome=outcome,
            )
        return cell


class HostedType:
    """One entity type on one host: its live table, and its counts since the last flush.

    :ivar apart: each of its entities has a process of its own.
    :ivar live: id to activation, the table that the gauges are read from.
    :ivar waiting: the activations that have a mailbox now.
    """

    __slots__ = (
        "_cells",
        "activated",
        "activation_took",
        "apart",
        "deactivated",
        "definition",
        "hooks",
        "host",
        "lifetimes",
        "live",
        "messages",
        "received",
        "waited",
        "waiting",
    )

    def __init__(self, host: EntityHost, definition: EntityDefinition) -> None:
        from entities.entity_class import Entity

        self.host = host
        self.definition = definition
        self.apart = definition.options.hosting == "actor"
        # A hook that is not overridden costs nothing: such an entity is activated and let go in place.
        self.hooks = (
            definition.cls.on_activate is not Entity.on_activate,
            definition.cls.on_deactivate is not Entity.on_deactivate,
        )
        self.live: dict[str, Activation] = {}
        self.waiting: dict[str, Activation] = {}
        self.received: dict[str, int] = {}
        self.activated = 0
        self.deactivated: dict[str, int] = {}
        self.waited: list[float] = []
        self.lifetimes: list[float] = []
        self.activation_took: dict[str, list[float]] = {"ok": [], "error": []}
        self._cells: dict[str, Any] = {}
        self.messages = {name: HostedMessage(self, m) for name, m in definition.messages.items()}

    def flush(self, recorder: Recorder) -> None:
        """Move what was counted into the recorder, whose lock the caller holds."""
        name = self.definition.name
        for operation, count in self.received.items():
            recorder.counter(cluster.messages_received, entity_type=name, operation=operation).value += count
        self.received.clear()
        if self.waited:
            self._histogram(recorder, cluster.mailbox_wait).record_many(self.waited)
            self.waited.clear()
        for message in self.messages.values():
            message.flush(recorder)
        if self.activated:
            recorder.counter(cluster.entity_activations, entity_type=name).value += self.activated
            self.activated = 0
        for outcome, took in self.activation_took.items():
            if took:
                recorder.histogram(cluster.entity_activation, entity_type=name, outcome=outcome).record_many(
                    took
                )
                took.clear()
        for reason, count in self.deactivated.items():
            recorder.counter(cluster.entity_deactivations, entity_type=name, reason=reason).value += count
        self.deactivated.clear()
        if self.lifetimes:
            self._histogram(recorder, cluster.entity_lifetime).record_many(self.lifetimes)
            self.lifetimes.clear()

    def _histogram(self, recorder: Recorder, instrument: Any) -> HistogramCell:
        cell = self._cells.get(instrument.name)
        if cell is None:
            cell = self._cells[instrument.name] = recorder.histogram(
                instrument, entity_type=self.definition.name
            )
        return cell
