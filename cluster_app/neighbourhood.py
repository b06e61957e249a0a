"""The rest of the cluster, as the entities of one runner reach it."""

from __future__ import annotations

from typing import Any

from cluster_app.client import Client

__all__ = ["Neighbourhood"]


class Neighbourhood:
    """Gives references that send through the runner's own client; `join` comes once that exists."""

    def __init__(self) -> None:
        self._client: Client | None = None

    def join(self, client: Client) -> None:
        """Say through which client to send."""
        self._client = client

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference, as `Cluster.entity`."""
        assert self._client is not None
        return self._client.reference(entity_type, entity_id)
