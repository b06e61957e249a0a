"""The coordinator, as a sender sees it: where the shards are, and whose code is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster_app.routes import Routes
from entities.declaration import EntityDefinition

__all__ = ["Directory"]


class Directory(Protocol):
    """`told` is called once, on any thread; nothing blocks or raises."""

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        """Tell where the shards are, when that is not what the caller knows already."""
        ...

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        """Make a type's code known; ConnectionError if nobody answered."""
        ...

    def keep(self, name: str, told: Callable[[BaseException | None], None]) -> None:
        """Have exactly one entity of a registered type kept alive; ConnectionError if nobody answered."""
        ...
