"""What `connect()` gives an entity."""

from __future__ import annotations

from cluster_app.cluster import Cluster

__all__ = ["InsideCluster"]


class InsideCluster(Cluster):
    """A connection that is the process's own, so leaving it ends nothing."""

    def close(self) -> None:
        """Do nothing: the process goes on."""

    def shutdown(self) -> None:
        """Refuse: the caller would end itself half-way."""
        raise RuntimeError(
            "an entity cannot shut its own cluster down; do it from a driver, or `cluster-app down`"
        )
