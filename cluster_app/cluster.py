"""A connection to a cluster: what `connect` returns, and what tests get from `MemoryCluster`.

Decides what a user can ask for. How it is carried out is the backend's business.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.reference import Reference, connections
from cluster_app.room import Room
from cluster_app.status import ClusterStatus
from entities.declaration import define
from entities.entity_class import Entity
from entities.response import RUNNER_THREADS
from observe.snapshot import MetricsSnapshot

__all__ = ["Backend", "Cluster"]

E = TypeVar("E", bound=Entity)


class Backend(Protocol):
    """What stands behind a connection."""

    def status(self) -> ClusterStatus:
        """Who is where."""
        ...

    def metrics(self) -> MetricsSnapshot:
        """Every count, after every living process has reported."""
        ...

    def states(self, type_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The public attributes of every living entity of a type, by id."""
        ...

    def shutdown(self) -> None:
        """End the service, and this connection."""
        ...

    def close(self) -> None:
        """End this connection."""
        ...


class Cluster:
    """A connection. Use it as a context manager, sync or async; leaving ends the connection, not the entities."""

    def __init__(self, client: Client, backend: Backend, config: ClusterConfig) -> None:
        self._client = client
        self._backend = backend
        self._room = Room(client, config.max_in_flight)
        self._closed = False
        connections.append(self)

    def entity(self, entity_type: type[E], entity_id: str, /) -> E:
        """A reference to the entity of that type and id, typed as the class itself.

        Nothing is sent: the first message activates the entity. Raises ValueError for an id that is not a non-empty
        str of at most 512 bytes, TypeError for a class that is no entity.
        """
        self._check_open()
        return cast(E, self._client.reference(entity_type, entity_id))

    def register(self, entity_type: type[Entity], *, replace: bool = False) -> None:
        """Make a type's code known to the cluster now; the first message does it otherwise.

        :param replace: run this code in new activations although the name is taken by other code.
        :raises TypeConflict: the name is taken by other code (a ValueError).
        :raises RuntimeEnvMismatch: the code asks for another `runtime_env` than the runners have (a ValueError).
        :raises TypeError: the code has to travel by value and cannot be pickled.
        :raises ImportError: a runner cannot load the code: it lacks something that the code imports.
        :raises ConnectionError: no coordinator answered within the default message timeout.
        """
        self._check_may_block("register")
        heard = threading.Event()
        refusals: list[BaseException | None] = []

        def told(refusal: BaseException | None) -> None:
            refusals.append(refusal)
            heard.set()

        self._client.register(define(entity_type), replace, told)
        if not heard.wait(self._client.default_timeout_s):
            raise ConnectionError(f"no coordinator answered within {self._client.default_timeout_s} s")
        if refusals[0] is not None:
            raise refusals[0]

    def wait_ready(self, reference: Any, /) -> None:
        """Block until this connection has room for one more message to that entity and its lane."""
        self._check_may_block("wait_ready")
        self._room.wait(_reference(reference))

    async def ready(self, reference: Any, /) -> None:
        """Wait until this connection has room for one more message to that entity and its lane."""
        await self._room.ready(_reference(reference))

    def status(self) -> ClusterStatus:
        """Who is where, now."""
        self._check_may_block("status")
        return self._backend.status()

    def metrics(self) -> MetricsSnapshot:
        """Have every live process report, then return the sum of all processes that live or have lived."""
        self._check_may_block("metrics")
        return self._backend.metrics()

    def states(self, entity_type: type[Entity], /) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the public attributes of every living entity of a type: (id, attributes by name), in no order.

        No message is sent: nothing is counted, activated or kept alive by it, and a full mailbox does not matter.
        Each entity is read between two steps of its handlers, but not all at one moment; those that come to life or
        are let go meanwhile may be missing. Attributes with a leading underscore are left out. A value that cannot
        be pickled is told as its `repr`.

        :raises TypeError: the class is no entity.
        :raises ConnectionError: the cluster, or a runner that lives, does not answer.
        """
        self._check_may_block("states")
        return self._backend.states(define(entity_type).name)

    def shutdown(self) -> None:
        """Remove the service: entities are let go, runners, coordinator and agents end. Ends this connection too."""
        if not self._closed:
            self._end(self._backend.shutdown)

    def close(self) -> None:
        """End this connection; replies that are not there end with `Cancelled`. Entities live on."""
        if not self._closed:
            self._end(self._backend.close)

    def _end(self, how: Any) -> None:
        self._closed = True
        if self in connections:
            connections.remove(self)
        how()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this connection is closed; call connect() again")

    def _check_may_block(self, call: str) -> None:
        self._check_open()
        if threading.get_ident() in RUNNER_THREADS:
            raise RuntimeError(
                f"{call}() would block the event loop that runs the entities, and wait for itself; in a handler use "
                f"'await asyncio.to_thread(cluster.{call}, ...)'"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reference(reference: Any) -> Reference:
    if not isinstance(reference, Reference):
        raise TypeError(f"{reference!r} is not a reference; get one with cluster.entity(Type, id)")
    return reference
