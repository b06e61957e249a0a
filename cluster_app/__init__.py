"""Sharded entities on Ray, with built-in metrics.

``connect`` gives a `Cluster`; ``cluster.entity(Type, id)`` a reference to the one live entity of that address.
"""

from cluster_app.cluster import Cluster
from cluster_app.config import ClusterConfig
from cluster_app.version import __version__
from entities import (
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
