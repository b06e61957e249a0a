"""Every metric of the cluster, declared once: name, kind, unit, labels, bucket edges.

Decides what is measured and what it is called. Does not decide where a number is kept (the recorder), when it
is read (the snapshot) or where it goes (the exporters).

An entity id is never a label, nor is a process: the number of series is bounded by nodes, types and methods,
however many entities live or have lived.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BATCH_EDGES",
    "LATENCY_EDGES_S",
    "LIFETIME_EDGES_S",
    "ClusterInstruments",
    "Instrument",
    "Kind",
    "cluster",
]

Kind = Literal["counter", "histogram", "gauge"]

LATENCY_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper edges of the duration buckets, seconds. The goal for a message is 0.1 s: the edges are dense below
it."""

LIFETIME_EDGES_S = (1.0, 5.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper edges of the lifetime buckets, seconds."""

BATCH_EDGES = (1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0)
"""Upper edges of the batch size buckets, messages."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One declared metric.

    ``add`` and ``record`` act on this process's own recorder and may be called from any thread. They look
    their cell up at each call: code that runs per message binds a cell of a recorder once instead.

    :ivar name: the metric's name everywhere it is shown.
    :ivar unit: the unit in UCUM notation, for example ``s`` or ``{message}``.
    :ivar labels: the label names, in the order in which label values are kept.
    :ivar bounds: a histogram's upper bucket edges, each inclusive; None for the other kinds.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] | None = None

    def add(self, n: int = 1, **labels: object) -> None:
        """Count ``n`` more.

        Raises TypeError for another kind or a number that is not an int, ValueError for bad labels or n < 0.
        """
        if self.kind != "counter":
            raise TypeError(f"{self.name} is a {self.kind}: only a counter has add()")
        if not isinstance(n, int):
            raise TypeError(f"{self.name}: a counter counts whole things, not {n!r}")
        if n < 0:
            raise ValueError(f"{self.name}: a counter only grows, so {n} cannot be added")
        # Imported here: the recorder is made of instruments, not the other way round.
        from observe.recorder import process_recorder

        recorder = process_recorder()
        cell = recorder.counter(self, **labels)
        with recorder.lock:
            cell.value += n

    def record(self, value: float, **labels: object) -> None:
        """Record one value in the instrument's unit.

        Raises TypeError for another kind, ValueError for bad labels and for a value that is not finite or
        below zero (it would spoil the sum for good).
        """
        if self.kind != "histogram":
            raise TypeError(f"{self.name} is a {self.kind}: only a histogram has record()")
        value = float(value)
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{self.name}: a value is finite and not below zero, not {value}")
        from observe.recorder import process_recorder

        recorder = process_recorder()
        cell = recorder.histogram(self, **labels)
        with recorder.lock:
            cell.record(value)


def _counter(name: str, unit: str, description: str, *labels: str) -> Instrument:
    return Instrument(name, "counter", unit, description, labels)


def _gauge(name: str, unit: str, description: str, *labels: str) -> Instrument:
    return Instrument(name, "gauge", unit, description, labels)


def _histogram(name: str, unit: str, bounds: tuple[float, ...], description: str, *labels: str) -> Instrument:
    return Instrument(name, "histogram", unit, description, labels, bounds)


class ClusterInstruments:
    """The namespace of the declared instruments, iterable in the order of declaration."""

    messages_sent = _counter(
        "cluster_messages_sent_total",
        "{message}",
        "Messages sent, once per message id; a broadcast counts one per target.",
        "entity_type",
        "operation",
    )
    messages_received = _counter(
        "cluster_messages_received_total",
        "{message}",
        "Messages accepted into a mailbox, once per message id.",
        "entity_type",
        "operation",
    )
    redeliveries = _counter(
        "cluster_redeliveries_total",
        "{message}",
        "Messages sent again under the same id.",
        "entity_type",
        "reason",
    )
    errors = _counter(
        "cluster_errors_total",
        "{error}",
        "Messages that settled with an error, by the error's type.",
        "entity_type",
        "type",
        "operation",
    )
    entity_activations = _counter(
        "cluster_entity_activations_total", "{entity}", "Entities that came to life.", "entity_type"
    )
    entity_deactivations = _counter(
        "cluster_entity_deactivations_total",
        "{entity}",
        "Entities that were let go, by why.",
        "entity_type",
        "reason",
    )
    message_latency = _histogram(
        "cluster_message_latency_seconds",
        "s",
        LATENCY_EDGES_S,
        "From the sending of a message to its settled reply, as its sender sees it.",
        "entity_type",
        "operation",
        "outcome",
    )
    entity_lifetime = _histogram(
        "cluster_entity_lifetime_seconds",
        "s",
        LIFETIME_EDGES_S,
        "From an entity's activation to its deactivation.",
        "entity_type",
    )
    mailbox_wait = _histogram(
        "cluster_mailbox_wait_seconds",
        "s",
        LATENCY_EDGES_S,
        "From a message's entry into a mailbox to the start of its handler.",
        "entity_type",
    )
    handler_duration = _histogram(
        "cluster_handler_duration_seconds",
        "s",
        LATENCY_EDGES_S,
        "From the start of a handler to its end.",
        "entity_type",
        "method",
        "outcome",
    )
    entity_activation = _histogram(
        "cluster_entity_activation_seconds",
        "s",
        LATENCY_EDGES_S,
        "How long an entity took to come to life.",
        "entity_type",
        "outcome",
    )
    slow_handlers = _counter(
        "cluster_slow_handlers_total",
        "{call}",
        "Handlers that stalled a runner's loop.",
        "entity_type",
        "method",
    )
    entities = _gauge("cluster_entities", "{entity}", "Entities alive.", "entity_type")
    mailbox_depth = _gauge(
        "cluster_mailbox_depth", "{message}", "Messages waiting in mailboxes.", "entity_type"
    )
    runners = _gauge("cluster_runners", "{runner}", "Runners, by each node's share.")
    runners_healthy = _gauge(
        "cluster_runners_healthy", "{runner}", "Runners whose lease is valid, by node share."
    )
    shards = _gauge("cluster_shards", "{shard}", "Shards granted, by each node's share.")
    singletons = _gauge("cluster_singletons", "{singleton}", "Singletons alive, by each node's share.")
    shard_handoffs = _counter(
        "cluster_shard_handoffs_total",
        "{handoff}",
        "Shards that changed runner, by why and how.",
        "reason",
        "outcome",
    )
    shard_handoff = _histogram(
        "cluster_shard_handoff_seconds",
        "s",
        LATENCY_EDGES_S,
        "From the decision to move a shard to its grant to the next runner.",
        "reason",
    )
    batch_messages = _histogram(
        "cluster_batch_messages", "{message}", BATCH_EDGES, "Messages per batch.", "direction"
    )

    def __iter__(self) -> Iterator[Instrument]:
        return (member for member in vars(type(self)).values() if isinstance(member, Instrument))


cluster = ClusterInstruments()
