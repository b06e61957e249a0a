"""What a cluster says about itself when asked."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["ClusterStatus", "CoordinatorStatus", "RunnerStatus"]


@dataclasses.dataclass(frozen=True, slots=True)
class RunnerStatus:
    """One runner incarnation.

    :ivar healthy: its lease runs.
    :ivar shards: how many it is granted.
    :ivar entities: how many live on it.
    :ivar lane: how messages reach it: ``memory`` or ``ray``.
    :ivar lanes: how many senders it hears.
    """

    id: str
    node_id: str
    pid: int
    healthy: bool
    shards: int
    entities: int
    lane: str
    lanes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class CoordinatorStatus:
    """The coordinator that leads now."""

    pid: int
    term: int


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster at a moment.

    :ivar entities: live entities by type.
    :ivar shards: granted shards.
    :ivar singletons: the types of which the cluster keeps exactly one entity, sorted. How many of them are alive is
        the gauge `cluster_singletons`.
    """

    runners: list[RunnerStatus]
    entities: dict[str, int]
    shards: int
    singletons: list[str]
    coordinator: CoordinatorStatus
    version: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts and lists, ready for JSON."""
        return dataclasses.asdict(self)
