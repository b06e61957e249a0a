"""A cluster on Ray for the tests of one file, which break parts of it that the cluster replaces."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cluster_app import Cluster, ClusterConfig


@pytest.fixture(scope="module")
def namespace() -> str:
    """The namespace of the file's own cluster."""
    return f"tests-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def config() -> ClusterConfig:
    """The figures of the file's own cluster; a file that wants others overrides this."""
    return ClusterConfig()


@pytest.fixture(scope="module")
def file_cluster(ray_instance: None, namespace: str, config: ClusterConfig) -> Iterator[Cluster]:
    """A cluster on Ray of the test file's own."""
    from cluster_app import connect

    with connect(namespace=namespace, config=config) as cluster:
        yield cluster
        cluster.shutdown()
