"""A Ray of its own for one side of a comparison, and a cluster on it for ours; a side as a program.

It decides how they are started: the same for every side, and never one that runs already; and how a side is asked and
answers: a JSON object in the first argument, one JSON line at the end.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["fresh_cluster", "fresh_ray", "run_side"]


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


def run_side(measure: Callable[..., Any], *, cluster: bool = False) -> None:
    """Be the program of one side: measure as the first argument asks, in a fresh Ray, and print what was found.

    :param measure: takes what is asked by name; returns what JSON can hold, or a named tuple of that.
    :param cluster: whether `measure` wants a fresh cluster first, with one runner.
    """
    asked = json.loads(sys.argv[1])
    with fresh_ray():
        if cluster:
            with fresh_cluster() as ours:
                found = measure(ours, **asked)
        else:
            found = measure(**asked)
    print(json.dumps(found._asdict() if hasattr(found, "_asdict") else found))
