"""The cells that one kind of message is counted on, bound once in a process.

Decides which instruments make up a message: the one that counts its start, the latency by outcome, the errors
by type. Does not decide when a message starts or ends: `track_cluster` and instrumented handles do.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from observe.failure import classify
from observe.instruments import cluster
from observe.recorder import CounterCell, process_recorder

__all__ = ["MessageCells", "Operation", "message_cells"]

Operation: TypeAlias = Literal["send", "receive", "broadcast"]


class MessageCells:
    """The cells of one operation on one entity type. Any thread may use them.

    :ivar lock: the recorder's: held for each change.
    """

    __slots__ = ("entity_type", "errors", "failed", "lock", "operation", "started", "succeeded")

    def __init__(self, operation: Operation, entity_type: str) -> None:
        recorder = process_recorder()
        started = cluster.messages_received if operation == "receive" else cluster.messages_sent
        latency = cluster.message_latency
        of = {"entity_type": entity_type, "operation": operation}
        self.operation: Operation = operation
        self.entity_type = entity_type
        self.lock = recorder.lock
        self.started = recorder.counter(started, **of)
        self.succeeded = recorder.histogram(latency, **of, outcome="ok")
        self.failed = recorder.histogram(latency, **of, outcome="error")
        self.errors: dict[str, CounterCell] = {}

    def begin(self) -> None:
        """Count one more that has started."""
        with self.lock:
            self.started.value += 1

    def end_well(self, durations_s: list[float]) -> None:
        """Record many that have ended well."""
        with self.lock:
            self.succeeded.record_many(durations_s)

    def end(self, duration_s: float, error: BaseException | None) -> None:
        """Record one that has ended, well or with an error."""
        if error is None:
            with self.lock:
                self.succeeded.record(duration_s)
            return
        reason = classify(error)
        errors = self.errors.get(reason)
        if errors is None:
            errors = self.errors[reason] = process_recorder().counter(
                cluster.errors, entity_type=self.entity_type, type=reason, operation=self.operation
            )
        with self.lock:
            self.failed.record(duration_s)
            errors.value += 1


# As many as there are operations and (bounded) entity types.
_cells: dict[tuple[str, str], MessageCells] = {}


def message_cells(operation: Operation, entity_type: str) -> MessageCells:
    """The process's cells of this operation and this (normalised) entity type, made at the first call."""
    cells = _cells.get((operation, entity_type))
    if cells is None:
        cells = _cells.setdefault((operation, entity_type), MessageCells(operation, entity_type))
    return cells
