"""Who is where in a memory cluster: what its coordinator knows and what its runners say, put together."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cluster_app.memory_coordinator import MemoryCoordinator
from cluster_app.memory_runner import MemoryRunner
from cluster_app.status import ClusterStatus, CoordinatorStatus, RunnerStatus, hottest
from cluster_app.version import __version__

__all__ = ["status_of"]


def status_of(service: MemoryCoordinator, processes: Mapping[str, MemoryRunner], now: float) -> ClusterStatus:
    """The status now, at this time of the cluster's clock."""
    views = {view.runner_id: view for view in service.coordinator.runners()}
    entities: dict[str, int] = {}
    runners = []
    for runner_id, memory in processes.items():
        counts = memory.runner.host.live.counts()
        for name, live in counts.items():
            entities[name] = entities.get(name, 0) + live
        view = views.get(runner_id)
        runners.append(
            RunnerStatus(
                runner_id,
                memory.node_id,
                os.getpid(),
                view is not None and view.healthy,
                view.shards if view is not None else 0,
                sum(counts.values()),
                "memory",
                memory.runner.lanes,
            )
        )
    return ClusterStatus(
        runners,
        entities,
        sum(runner.shards for runner in runners),
        service.coordinator.singletons,
        CoordinatorStatus(os.getpid(), service.term),
        __version__,
        hottest(found for memory in processes.values() for found in memory.runner.admission.hot.hottest(now)),
    )
