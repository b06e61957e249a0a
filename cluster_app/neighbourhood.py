"""The rest of the cluster, as the entities of one runner reach it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from entities.delivery import current_delivery

if TYPE_CHECKING:
    from cluster_app.client import Client  # takes its time to load: not where an entity sends nothing

__all__ = ["Neighbourhood", "cluster_of_this_entity"]


class Neighbourhood:
    """Gives references that send through the runner's own client; `join` comes once that exists.

    :param make: makes the client when it is first needed, where nobody joins.
    :ivar joined: the client, once there is one.
    :ivar cluster: what `connect` gives the entities, where that is not what it gives all of their process.
    """

    def __init__(self, make: Callable[[], Client] | None = None) -> None:
        self.joined: Client | None = None
        self.cluster: Any = None
        self._make = make
        self._making = threading.Lock()  # a blocking handler may be the first to send

    def join(self, client: Client) -> None:
        """Say through which client to send."""
        self.joined = client

    def client(self) -> Client:
        """The client."""
        if self.joined is None:
            with self._making:
                if self.joined is None:
                    assert self._make is not None
                    self.joined = self._make()
        return self.joined

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference, as `Cluster.entity`."""
        return self.client().reference(entity_type, entity_id)


def cluster_of_this_entity() -> Any:
    """The connection of the runner whose entity is asking; None elsewhere, and where the whole process has one."""
    delivery = current_delivery.get()
    if delivery is None or delivery.activation is None:
        return None
    neighbours = delivery.activation.hosted.host.neighbours
    return neighbours.cluster if isinstance(neighbours, Neighbourhood) else None
