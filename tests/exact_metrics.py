"""The metrics of a cluster when all that lives has reported: on a busy machine that may take its time."""

from __future__ import annotations

import time

from cluster_app import Cluster
from observe.metrics import MetricsSnapshot

__all__ = ["exact_metrics"]


def exact_metrics(cluster: Cluster, *, within_s: float = 60.0) -> MetricsSnapshot:
    """Ask until nobody's report is missing; fails with their names if that takes too long."""
    deadline = time.monotonic() + within_s
    while (metrics := cluster.metrics()).missing:
        assert time.monotonic() < deadline, f"not reported within {within_s} s: {', '.join(metrics.missing)}"
    return metrics
