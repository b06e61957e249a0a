"""What a cluster says about itself when asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

__all__ = ["ClusterStatus", "CoordinatorStatus", "HotEntity", "RunnerStatus", "hottest"]

_SHOWN = 20


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
class HotEntity:
    """An entity that gets many messages.

    :ivar messages_per_s: about how many it has got a second, over the last ten to twenty.
    :ivar error_per_s: how much more it may be, for want of memory for all addresses. Beyond some hundred messages a
        second the counts are samples as well, whose own error is not in here.
    """

    type: str
    id: str
    messages_per_s: float
    error_per_s: float


def hottest(found: Iterable[HotEntity]) -> list[HotEntity]:
    """The hottest of what several runners told, the hottest first."""
    return sorted(found, key=lambda hot: -hot.messages_per_s)[:_SHOWN]


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster at a moment.

    :ivar entities: live entities by type.
    :ivar shards: granted shards.
    :ivar singletons: the types of which the cluster keeps exactly one entity, sorted. How many of them are alive is
        the gauge `cluster_singletons`.
    :ivar hot: the entities that get the most messages, the hottest first.
    """

    runners: list[RunnerStatus]
    entities: dict[str, int]
    shards: int
    singletons: list[str]
    coordinator: CoordinatorStatus
    version: str
    hot: list[HotEntity] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts and lists, ready for JSON."""
        return dataclasses.asdict(self)
