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
from observe.instruments import cluster
from observe.recorder import HistogramCell, Recorder

if TYPE_CHECKING:
    from entities.entity_class import Entity
    from entities.host import EntityHost

__all__ = ["Activation", "HostedMessage", "HostedType", "Phase"]


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

    def __str__(self) -> str:
        return f"{self.hosted.definition.name}/{self.entity_id}"


class HostedMessage:
    """One message of a hosted type: its declaration, unpacked for speed, and what was measured since the last flush.

    :ivar took_ok, took_error: handler durations, seconds.
    """

    __slots__ = ("_cells", "declaration", "function", "hosted", "is_async", "name", "took_error", "took_ok")

    def __init__(self, hosted: HostedType, declaration: MessageDeclaration) -> None:
        self.hosted = hosted
        self.declaration = declaration
        self.name = declaration.name
        self.function: Callable[..., Any] = declaration.function
        self.is_async = declaration.is_async
        if hosted.apart:  # it runs elsewhere, and is waited for here
            self.function, self.is_async = hand_on, True
        self.took_ok: list[float] = []
        self.took_error: list[float] = []
        self._cells: dict[str, HistogramCell] = {}

    def flush(self, recorder: Recorder) -> None:
        """Move what was measured into the recorder, whose lock the caller holds."""
        if self.took_ok:
            self._cell(recorder, "ok").record_many(self.took_ok)
            self.took_ok.clear()
        if self.took_error:
            self._cell(recorder, "error").record_many(self.took_error)
            self.took_error.clear()

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
        self.messages = {name: HostedMessage(self, m) for name, m in definition.messages.items()}
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
