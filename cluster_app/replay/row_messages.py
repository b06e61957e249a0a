"""The user's own rows to messages: one row, one message to the entity its key column names.

It decides which rows are left out: those that cannot be read, have no valid key, or do not fit the
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from cluster_app.replay.binding import Binding
from cluster_app.replay.feeder import Feeder
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.row import UnusableRow
from cluster_app.replay.source import Source
from cluster_app.replay.target import Target
from entities import Entity

__all__ = ["RowMessages"]


class RowMessages:
    """The workload of ``replay FILE --entity module:Class --key COLUMN --message METHOD``."""

    def __init__(self, source: Source, target: Target, key: str, limit: int | None = None) -> None:
        """Bind a source's columns to a message. Raises Refusal when they do not fit."""
        self.kinds: tuple[type[Entity], ...] = (target.kind,)
        self.size = source.size if limit is None else None
        self._source = source
        self._target = target
        self._binding = Binding(target, key, source.columns)
        self._limit = limit

    def position(self) -> int:
        """Bytes of the source read so far."""
        return self._source.position()

    def feed(self, feeder: Feeder, rejects: Rejects, row_done: Callable[[], None]) -> None:
        """Send one message per row that can be used."""
        send = feeder.route(self._target.kind, self._target.method).send
        for row in islice(self._source, self._limit):
            try:
                if row.fault:
                    raise UnusableRow(row.fault)
                entity_id = self._binding.entity_id(row.cells)
                args, named = self._binding.arguments(row.cells)
            except UnusableRow as error:
                rejects.add(row.line, str(error), row.raw if row.fault else row.cells)
            else:
                send(entity_id, *args, **named)
            row_done()
