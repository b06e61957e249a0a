"""A Ray whose processes have the variables by which their telemetry leaves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster_app import Cluster, connect
from observe import sampling

__all__ = ["cluster_that_exports"]

_INTERVAL_MS = "500"


@contextmanager
def cluster_that_exports(environment: dict[str, str]) -> Iterator[Cluster]:
    """A cluster on a Ray of its own, whose processes have these variables."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", _INTERVAL_MS)
        for name, value in environment.items():
            patch.setenv(name, value)
        sampling.begin(anew=True)  # this process may have read them already, for another Ray
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _metrics_export_port=0,
            namespace=uuid.uuid4().hex,
        )
        try:
            with connect(namespace="cluster_app") as cluster:
                yield cluster
        finally:
            ray.shutdown()
    sampling.begin(anew=True)
