"""The rest of the cluster, as the entities of one runner reach it."""

from __future__ import annotations

from typing import Any

from cluster_app.client import Client
from entities.delivery import current_delivery

__all__ = ["Neighbourhood", "cluster_of_this_entity"]


class Neighbourhood:
    """Gives references that send through the runner's own client; `join` comes once that exists.

    :ivar cluster: what `connect` gives the entities, where that is not what it gives all of their process.
    """

    def __init__(self) -> None:
        self._client: Client | None = None
        self.cluster: Any = None

    def join(self, client: Client) -> None:
        """Say through which client to send."""
        self._client = client

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference, as `Cluster.entity`."""
        assert self._client is not None
        return self._client.reference(entity_type, entity_id)


def cluster_of_this_entity() -> Any:
    """The connection of the runner whose entity is asking; None elsewhere, and where the whole process has one."""
    delivery = current_delivery.get()
    if delivery is None or delivery.activation is None:
        return None
    neighbours = delivery.activation.hosted.host.neighbours
    return neighbours.cluster if isinstance(neighbours, Neighbourhood) else None
