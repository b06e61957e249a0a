"""What a replay feeds: some rows, made into messages one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster_app.replay.feeder import Feeder
from cluster_app.replay.rejects import Rejects
from entities import Entity

__all__ = ["Workload"]


class Workload(Protocol):
    """Rows and what becomes of them.

    :ivar kinds: the entity classes it sends to.
    :ivar size: bytes to read; None when that is not known.
    """

    @property
    def kinds(self) -> tuple[type[Entity], ...]:
        """The entity classes it sends to."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes to read, if known."""
        ...

    def position(self) -> int:
        """Bytes read so far."""
        ...

    def feed(self, feeder: Feeder, rejects: Rejects, row_done: Callable[[], None]) -> None:
        """Send every row's messages in order; call `row_done` after each row, used or rejected."""
        ...
