"""Two versions meet."""

from __future__ import annotations

import pytest

import cluster_app.ray_connect
from cluster_app import Cluster, VersionMismatch, __version__, connect

pytestmark = pytest.mark.ray


def test_connecting_to_another_version_says_so(
    file_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both versions, the namespace and what to do; the running cluster is not touched."""
    before = file_cluster.status()
    monkeypatch.setattr(cluster_app.ray_connect, "__version__", "99.1.0")
    with pytest.raises(VersionMismatch) as caught:
        connect(namespace=namespace)
    monkeypatch.undo()

    error = caught.value
    assert (error.running, error.own, error.namespace) == (__version__, "99.1.0", namespace)
    text = str(error)
    assert f"runs cluster-app {__version__}" in text
    assert "this process has 99.1.0" in text
    assert f"install {__version__} here" in text
    assert "`cluster-app down`" in text
    assert namespace in text
    assert file_cluster.status().coordinator == before.coordinator
    with connect(namespace=namespace) as again:
        assert again.status().version == __version__
