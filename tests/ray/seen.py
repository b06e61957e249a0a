"""Waiting for what the cluster says about itself: it is asked again until it says so."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster_app import Cluster
from cluster_app.status import ClusterStatus

__all__ = ["seen"]


def seen(cluster: Cluster, condition: Callable[[ClusterStatus], bool], *, within_s: float) -> ClusterStatus:
    """The first status that meets the condition; fails when none does within that time."""
    deadline = time.monotonic() + within_s
    while not condition(status := cluster.status()):
        assert time.monotonic() < deadline, f"after {within_s} s: {status}"
    return status
