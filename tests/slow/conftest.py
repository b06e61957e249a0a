"""The fixtures of the Ray room for this one too, on a Ray that has its dashboard and reports metrics each second.

And one that was started as an operator does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ray.conftest import config, file_cluster, namespace
from tests.slow.started_ray import StartedRay, started

__all__ = ["config", "file_cluster", "namespace", "started_ray"]


@pytest.fixture(scope="session")
def ray_instance() -> Iterator[None]:
    """A Ray of this session's own, as that of the other rooms; the state API and Prometheus are served here."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        # By the environment: what Ray starts must have it too, and all of that is started here.
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        ray.init(
            address="local", num_cpus=4, include_dashboard=True, log_to_driver=False, _metrics_export_port=0
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def started_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedRay]:
    """A node started by `ray start --head`, with token authentication; no process of this session is in it."""
    # Ray's sockets lie in its folder, and their paths must be short.
    with started(tmp_path_factory.mktemp("r")) as ray:
        yield ray
