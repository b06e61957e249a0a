"""A connection to a cluster: what `connect` returns, and what tests get from `MemoryCluster`.

Decides what a user can ask for. How it is carried out is the backend's business.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from cluster_app.arriving import connections
from cluster_app.broadcast import Broadcaster, Ways
from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.drain import DrainResult
from cluster_app.reference import Reference
from cluster_app.registration import answer_to
from cluster_app.room import Room
from cluster_app.singletons import SINGLETON_ID, ask_to_keep
from cluster_app.status import ClusterStatus
from cluster_app.unknown_type import UnknownType
from entities.address import EntityAddress, check_entity_id
from entities.declaration import define
from entities.entity_class import Entity
from entities.response import RUNNER_THREADS
from observe.snapshot import MetricsSnapshot

__all__ = ["Backend", "Cluster", "InsideCluster"]

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

    def live(self, type_name: str) -> Iterator[str]:
        """The ids of the living entities of a type."""
        ...

    def type_names(self) -> list[str]:
        """The names of the registered types."""
        ...

    def deactivate(self, type_name: str, entity_id: str) -> bool:
        """Let one entity go; False when it does not live. Raises UnknownType."""
        ...

    def drain(self, target: str, timeout_s: float) -> DrainResult:
        """Empty a node or a runner."""
        ...

    def undrain(self, node_id: str) -> None:
        """Let a node have runners again."""
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
        self._broadcaster = Broadcaster(Ways(client))
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

    @property
    def broadcast(self) -> Broadcaster:
        """Send a message to every living entity of a type: ``broadcast(Counter, "increment", 1)``.

        See `Broadcaster.__call__`; ``broadcast.options(timeout_s=...)`` gives it a deadline of its own first.
        """
        self._check_open()
        return self._broadcaster

    def singleton(self, entity_type: type[E], /) -> E:
        """A reference to the one object of this type that the cluster keeps, typed as the class itself.

        It is an entity with a fixed id, started once in the cluster without waiting for a message, kept whatever
        `max_idle_time` says, and started again where its shard goes when its runner is lost or hands it over, or when
        it has let itself go with `deactivate()`: with fresh state each time. If it cannot come to life that is logged,
        and tried again after 1 s, then 2 s, up to every 30 s. The cluster remembers it until `shutdown()`.

        Blocks until the cluster has taken it in. In a handler it returns at once, and that goes on by itself.

        :raises TypeError: the class is no entity.
        :raises TypeConflict: the type's name is taken by other code (a ValueError).
        :raises ConnectionError: no coordinator answered within the default message timeout.
        """
        self._check_open()
        ask_to_keep(self._client, define(entity_type))
        return cast(E, self._client.reference(entity_type, SINGLETON_ID))

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
        register = partial(self._client.types.register, define(entity_type), replace)
        refusal = answer_to(register, self._client.default_timeout_s)
        if refusal is not None:
            raise refusal

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
        """Have every live process report, then return the sum of all processes that live or have lived.

        A process that lives and does not answer, since it stands still or its machine is busy, is waited for two
        seconds; then `MetricsSnapshot.missing` names it, and a warning is logged.

        :raises ConnectionError: the cluster, or a node's agent, does not answer.
        """
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

    def live(self, entity_type: type[Entity] | str, /, *, limit: int | None = None) -> Iterator[str]:
        """The ids of the living entities of a type, in no order; at most `limit` of them.

        A control call, as `states`: no message is sent, nothing is counted or kept alive. The type is a class or the
        name of a registered one.

        :raises TypeError: the class is no entity.
        :raises ValueError: the limit is below 0.
        :raises UnknownType: no type of that name is registered (a LookupError).
        :raises ConnectionError: the cluster, or a runner that lives, does not answer.
        """
        self._check_may_block("live")
        if limit is not None and limit < 0:
            raise ValueError(f"live(limit={limit}): 0 or more ids, or None for all")
        name = self._registered(entity_type) if isinstance(entity_type, str) else define(entity_type).name
        return itertools.islice(self._backend.live(name), limit)

    def deactivate(self, entity: Entity | EntityAddress, /) -> bool:
        """Let one entity go, with reason explicit; False when it did not live, and then it is not activated.

        The entity ends once it has handled what it is handling; a message sent after this has returned meets a new
        activation, and so does what waits in its mailbox. A control call to the runner that holds its shard: no
        message is counted, the deactivation is.

        :param entity: a reference, or an address whose type need not be known here.
        :raises TypeError: it is neither.
        :raises UnknownType: no type of that address is registered (a LookupError).
        :raises ConnectionError: the cluster, or the runner, does not answer.
        """
        self._check_may_block("deactivate")
        if isinstance(entity, EntityAddress):
            return self._backend.deactivate(entity.type, check_entity_id(entity.id))
        address = _reference(entity)._address
        try:
            return self._backend.deactivate(address.type, address.id)
        except UnknownType:
            return False  # a reference needs no registration, and nothing was ever sent to one of its type

    def _registered(self, name: str) -> str:
        known = self._backend.type_names()
        if name not in known:
            raise UnknownType(name, known)
        return name

    def drain(self, target: str, /, *, timeout_s: float = 60.0) -> DrainResult:
        """Move every shard off a node or one runner, and wait until it holds none; no message fails by it.

        What runs is finished, what waits goes along, entities are let go with reason ``handoff``. The runners end when
        they are empty. A drained node gets no others until `undrain`; a runner drained alone is replaced by a new
        process: at once if nobody else could take its shards, else when it has ended.

        :param target: the id of a node or runner, or the beginning of just one such id; see `status`.
        :param timeout_s: how long to wait, in seconds; the drain itself goes on.
        :raises ValueError: there is no such node or runner, or more than one.
        :raises DrainRefused: it is the only node, so nobody could take its shards.
        :raises DrainTimeout: handlers still run there; it names them.
        :raises ConnectionError: no coordinator answered.
        """
        self._check_may_block("drain")
        if not timeout_s > 0:
            raise ValueError(f"drain(timeout_s={timeout_s!r}): seconds above 0")
        return self._backend.drain(target, timeout_s)

    def undrain(self, node_id: str, /) -> None:
        """Let a drained node have runners again, which take their share of the shards. Nothing happens to others.

        :param node_id: its id, or the beginning of just one drained node's; ValueError if there is none.
        """
        self._check_may_block("undrain")
        self._backend.undrain(node_id)

    def shutdown(self) -> None:
        """Remove the service: entities are let go, runners, coordinator and agents end. Ends this connection too.

        What has not ended in order after half a minute is killed.
        """
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


class InsideCluster(Cluster):
    """A connection as entities get it: it is their process's own, so leaving it ends nothing."""

    def close(self) -> None:
        """Do nothing: the runner goes on."""

    def shutdown(self) -> None:
        """Refuse: the caller would end itself half-way."""
        raise RuntimeError(
            "an entity cannot shut its own cluster down; do it from a driver, or `cluster-app down`"
        )


def _reference(reference: Any) -> Reference:
    if not isinstance(reference, Reference):
        raise TypeError(f"{reference!r} is not a reference; get one with cluster.entity(Type, id)")
    return reference
