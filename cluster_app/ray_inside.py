"""A connection as entities get it: it is their process's own.

In a process of one entity it is made when that first connects, for few do, and what it takes need not be loaded before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.cluster import Cluster
    from cluster_app.ray_reporter import Reporter

__all__ = ["connection_inside", "offer_inside"]

# What connections are made of, and those that are made, by namespace.
_parts: dict[str, tuple[Callable[[], Client], Callable[[], Reporter], str]] = {}
_made: dict[str, Any] = {}


def offer_inside(
    namespace: str, client: Callable[[], Client], reporter: Callable[[], Reporter], config: str
) -> None:
    """From now on `connect()` in this process gives a connection that sends through this client.

    :param client: gives it; asked once somebody connects, as `reporter` is.
    :param config: the cluster's figures, as JSON.
    """
    _parts[namespace] = (client, reporter, config)


def connection_inside(namespace: str) -> Cluster | None:
    """The connection of a process that holds entities; None in any other."""
    if namespace in _parts and namespace not in _made:
        from cluster_app.cluster import InsideCluster
        from cluster_app.config import ClusterConfig
        from cluster_app.ray_backend import RayBackend

        client, reporter, config = _parts[namespace]
        backend = RayBackend(namespace, reporter())
        _made[namespace] = InsideCluster(client(), backend, ClusterConfig.model_validate_json(config))
    found: Cluster | None = _made.get(namespace)
    return found
