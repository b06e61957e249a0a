"""Sharded entities on Ray, with built-in metrics.

``connect`` gives a `Cluster`; ``cluster.entity(Type, id)`` a reference to the one live entity of that address.
"""

from typing import TYPE_CHECKING, Any, cast

from cluster_app.floors import check_floors

check_floors()  # before the first import of another floor, which would fail in some other way

from cluster_app.unknown_type import UnknownType  # noqa: E402  # see above
from cluster_app.version import VersionMismatch, __version__  # noqa: E402
from entities import (  # noqa: E402
    ActivationFailed,
    AlreadyProcessingMessage,
    CallCycle,
    Cancelled,
    ClusterError,
    Entity,
    EntityAddress,
    EntityNotAssignedToRunner,
    EntityResponse,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    PersistenceError,
    RunnerNotRegistered,
    RunnerUnavailable,
    Timeout,
    Unknown,
    entity,
    message,
)

if TYPE_CHECKING:
    from cluster_app.broadcast import BroadcastResult
    from cluster_app.cluster import Cluster
    from cluster_app.code import RuntimeEnvMismatch, TypeConflict
    from cluster_app.config import ClusterConfig
    from cluster_app.drain import DrainRefused, DrainResult, DrainTimeout
    from cluster_app.gathering import as_completed, gather

__all__ = [
    "ActivationFailed",
    "AlreadyProcessingMessage",
    "BroadcastResult",
    "CallCycle",
    "Cancelled",
    "Cluster",
    "ClusterConfig",
    "ClusterError",
    "DrainRefused",
    "DrainResult",
    "DrainTimeout",
    "Entity",
    "EntityAddress",
    "EntityNotAssignedToRunner",
    "EntityResponse",
    "HandlerError",
    "MailboxFull",
    "MalformedMessage",
    "PersistenceError",
    "RunnerNotRegistered",
    "RunnerUnavailable",
    "RuntimeEnvMismatch",
    "Timeout",
    "TypeConflict",
    "Unknown",
    "UnknownType",
    "VersionMismatch",
    "__version__",
    "as_completed",
    "connect",
    "entity",
    "gather",
    "message",
]

# Loaded when first asked for. A module that declares entities asks for none of it, and neither does the process of its
# own that one of them may have: it starts in less time so.
_LATER = {
    "BroadcastResult": "cluster_app.broadcast",
    "Cluster": "cluster_app.cluster",
    "ClusterConfig": "cluster_app.config",
    "DrainRefused": "cluster_app.drain",
    "DrainResult": "cluster_app.drain",
    "DrainTimeout": "cluster_app.drain",
    "RuntimeEnvMismatch": "cluster_app.code",
    "TypeConflict": "cluster_app.code",
    "as_completed": "cluster_app.gathering",
    "gather": "cluster_app.gathering",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value


def connect(
    address: str | None = None, *, namespace: str = "cluster_app", config: "ClusterConfig | None" = None
) -> "Cluster":
    """Connect to the cluster of this namespace on Ray, starting its service if there is none.

    An initialised Ray is used as it is; else ``ray.init(address)`` decides by its own rules, and what it starts ends
    with the connection. Coordinator, runners and agents are detached: they outlive this process.

    :param namespace: the Ray namespace of the service; each has a cluster of its own.
    :param config: the cluster's figures, if this connection starts it; a sender's own fields count in any case.
    :raises VersionMismatch: the running service is of another version.
    :raises ConnectionError: the service could not be started or does not answer.
    """
    from cluster_app.neighbourhood import cluster_of_this_entity

    inside = cluster_of_this_entity()  # a memory cluster's: its runners share a process
    if inside is not None:
        return cast("Cluster", inside)
    # Here, so that tests with `MemoryCluster` and everything else that needs no Ray start without loading it.
    from cluster_app.ray_connect import connect as connect_on_ray

    return connect_on_ray(address, namespace=namespace, config=config)
