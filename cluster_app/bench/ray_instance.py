"""A Ray of its own for one side of a comparison, and a cluster on it for ours.

It decides how they are started: the same for every side, and never one that runs already.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["fresh_cluster", "fresh_ray"]


@contextmanager
def fresh_ray() -> Iterator[None]:
    """Start a Ray on this machine for the length of a block, and end that one alone."""
    import ray

    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def fresh_cluster(*, metrics: bool = True, namespace: str = "cluster_app") -> Iterator[Any]:
    """Start a cluster with one runner on the Ray that is there, for the length of a block.

    All but `metrics` is as users get it: by default, or by their environment.
    """
    import cluster_app

    config = cluster_app.ClusterConfig(metrics=metrics)
    with cluster_app.connect(namespace=namespace, config=config) as cluster:
        yield cluster
        cluster.shutdown()
