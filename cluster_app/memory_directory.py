"""The coordinator of a memory cluster, as a sender sees it.

Decides what a sender hears when nobody leads, or whoever does stands still: the `ConnectionError` that it asks again
after. Always told on the cluster's loop, and never at once.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster_app.code import ShippedType, TypeConflict, prompt
from cluster_app.leadership import NotLeading
from cluster_app.memory_coordinators import MemoryCoordinators
from cluster_app.routes import Routes
from cluster_app.stepped_loop import SteppedLoop
from entities.declaration import EntityDefinition

__all__ = ["MemoryDirectory"]


class MemoryDirectory:
    """A `Directory`.

    :param registered: called with each type that the coordinator has taken in.
    """

    def __init__(
        self,
        loop: SteppedLoop,
        coordinators: MemoryCoordinators,
        registered: Callable[[EntityDefinition], None],
    ) -> None:
        self._loop = loop
        self._coordinators = coordinators
        self._registered = registered

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        """See `Directory`."""

        async def ask() -> None:
            try:
                told(await self._coordinators.asked[0].routes(known_version))
            except ConnectionError as gone:
                told(gone)

        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(ask()))

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        """See `Directory`."""

        def ask() -> None:
            module, name = definition.cls.__module__, definition.cls.__qualname__
            # One process: the class itself is handed on, and nothing of it is pickled.
            shipped = ShippedType(
                definition.name,
                definition.options.group,
                definition.digest,
                module,
                name,
                prompt(module),
                {},
                b"in memory",
            )
            try:
                self._coordinators.answering().register(shipped, replace)
            except (TypeConflict, ConnectionError) as refusal:
                told(refusal)
                return
            except NotLeading as silent:
                told(ConnectionError(str(silent)))
                return
            self._registered(definition)
            told(None)

        self._loop.call_soon_threadsafe(ask)

    def keep(self, name: str, told: Callable[[BaseException | None], None]) -> None:
        """See `Directory`."""

        def ask() -> None:
            try:
                self._coordinators.answering().keep(name)
            except (LookupError, ConnectionError, NotLeading) as refusal:
                told(ConnectionError(str(refusal)) if isinstance(refusal, NotLeading) else refusal)
                return
            told(None)

        self._loop.call_soon_threadsafe(ask)
