"""What a cluster says about itself when asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from observe.export_status import ExportStatus

__all__ = ["ClusterStatus", "CoordinatorStatus", "HotEntity", "RunnerStatus", "TelemetryStatus", "hottest"]

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
    :ivar error_per_s: how much more it may be, for want of memory for all addresses. Messages in large frames and
        those within a runner are sampled as well, one in sixteen; that error is not in here.
    """

    type: str
    id: str
    messages_per_s: float
    error_per_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class TelemetryStatus:
    """Whether a node's telemetry leaves, by one exporter. A node where nothing is configured has none.

    :ivar exporter: the name of the exporter, for example ``otlp_proto_grpc``.
    :ivar endpoint: where to.
    :ivar exports: exports acknowledged since the node's agent started.
    :ivar last_success_unix_s: when the last one was; None: none yet.
    :ivar failures: exports that have failed since then. What they held leaves with the next one that succeeds.
    :ivar dropped: exports given up for good.
    :ivar error: why the last one failed; empty when it did not.
    """

    node_id: str
    exporter: str
    endpoint: str
    exports: int
    last_success_unix_s: float | None
    failures: int
    dropped: int
    error: str

    @classmethod
    def of(cls, node_id: str, state: ExportStatus) -> TelemetryStatus:
        """What one node's agent says of one exporter."""
        return cls(
            node_id,
            state.exporter,
            state.endpoint,
            state.exports,
            state.last_success_unix_s,
            state.failures,
            state.dropped,
            state.error,
        )


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
    :ivar telemetry: whether telemetry leaves, by node and exporter; empty where nothing is configured.
    """

    runners: list[RunnerStatus]
    entities: dict[str, int]
    shards: int
    singletons: list[str]
    coordinator: CoordinatorStatus
    version: str
    hot: list[HotEntity] = dataclasses.field(default_factory=list)
    telemetry: list[TelemetryStatus] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts and lists, ready for JSON."""
        return dataclasses.asdict(self)
