"""What all rooms share: one Ray and one cluster on it for the whole session, and a cluster on either transport."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from cluster_app import Cluster
from cluster_app.testing import MemoryCluster
from tests.exact_metrics import exact_metrics


@pytest.fixture(scope="session")
def ray_instance() -> Iterator[None]:
    """A Ray of this session's own, on this machine; nothing of it outlives the session."""
    import ray

    # Not one that runs already, which `ray.init` would join.
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _metrics_export_port=0
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_cluster(ray_instance: None) -> Iterator[Cluster]:
    """The session's cluster on Ray, with one runner. Tests on it use entity types of their own."""
    from cluster_app import connect

    with connect(namespace="tests") as cluster:
        yield cluster
        cluster.shutdown()


@pytest.fixture
def own_ray_cluster(ray_instance: None) -> Iterator[Cluster]:
    """A cluster on Ray of the test's own, for tests that break it."""
    from cluster_app import connect

    with connect(namespace=f"tests-{uuid.uuid4().hex[:8]}") as cluster:
        yield cluster
        cluster.shutdown()


@pytest.fixture
def memory_cluster() -> Iterator[MemoryCluster]:
    """A cluster in memory with two runners and a stepped clock."""
    with MemoryCluster(runners=2) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("ray", marks=pytest.mark.ray)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The same test on both transports."""
    found: Cluster = request.getfixturevalue("memory_cluster" if request.param == "memory" else "ray_cluster")
    return found


@pytest.fixture
def let_pass(cluster: Cluster) -> Callable[[float], None]:
    """Let seconds pass: the stepped clock moves at once, Ray's has to be waited for."""
    if isinstance(cluster, MemoryCluster):
        return cluster.clock.advance
    return time.sleep


class Counts:
    """What has been counted of some entity types since this was made."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = exact_metrics(cluster)
        self._now = self._before

    def refresh(self) -> None:
        """Read the cluster's metrics again."""
        self._now = exact_metrics(self._cluster)

    def of(self, name: str, **labels: str) -> float:
        """How much a metric has grown between the start and the last refresh."""
        return self._now.value(name, **labels) - self._before.value(name, **labels)

    def check_invariants(self, entity_type: str) -> None:
        """With nothing in flight: sent is the count of latencies, errors that of those with outcome error."""
        sent = self.of("cluster_messages_sent_total", entity_type=entity_type)
        assert sent == self.of("cluster_message_latency_seconds", entity_type=entity_type)
        errors = self.of("cluster_errors_total", entity_type=entity_type)
        assert errors == self.of("cluster_message_latency_seconds", entity_type=entity_type, outcome="error")


@pytest.fixture
def counts(cluster: Cluster) -> Counts:
    """What the test's own messages add to the cluster's metrics."""
    return Counts(cluster)
