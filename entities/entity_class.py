"""What a user derives entities from.

Decides what an entity may ask of the cluster it lives in. Outside a cluster it is a plain object, so that its
methods can be unit-tested by calling them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from entities.address import EntityAddress
from entities.delivery import current_delivery

if TYPE_CHECKING:
    from entities.activation import Activation

__all__ = ["Entity"]

E = TypeVar("E", bound="Entity")


class Entity:
    """One live instance of an entity type for one id.

    Attributes are plain Python and live as long as the activation: what must outlast it belongs in storage.
    """

    # The one slot keeps the user's own attributes alone in __dict__.
    __slots__ = ("_activation",)

    _activation: Activation

    async def on_activate(self) -> None:
        """Called once before the first message; raising ends that message with `ActivationFailed`."""

    async def on_deactivate(self, reason: str) -> None:
        """Called once when the entity is let go: reason idle, explicit, handoff or shutdown."""

    @property
    def address(self) -> EntityAddress:
        """Who this entity is. Raises RuntimeError outside a cluster."""
        activation = self._here()
        return EntityAddress(activation.hosted.definition.name, activation.entity_id)

    @property
    def epoch(self) -> tuple[int, int]:
        """The (term, number) under which this entity's shard is granted.

        It only grows from owner to owner: hand it to outside storage as a fencing token.
        """
        return self._here().epoch

    @property
    def sender(self) -> EntityAddress | None:
        """The entity that sent the message being handled, or None if it came from outside."""
        delivery = current_delivery.get()
        if delivery is None or not delivery.chain:
            return None
        entity_type, entity_id, _ = delivery.chain[-1]
        return EntityAddress(entity_type, entity_id)

    def entity(self, entity_type: type[E], entity_id: str, /) -> E:
        """A reference to another entity, as :meth:`cluster_app.Cluster.entity`."""
        return cast(E, self._here().hosted.host.neighbours.entity(entity_type, entity_id))

    def keep_alive(self, seconds: float) -> None:
        """Do not passivate for `seconds` from now, message or no message."""
        if not seconds >= 0:
            raise ValueError(f"keep_alive({seconds!r}): seconds, 0 or more")
        activation = self._here()
        activation.keep_until = max(activation.keep_until, activation.hosted.host.now() + seconds)

    def deactivate(self) -> None:
        """Let this entity go once the message being handled has ended; what waits meets a new activation."""
        activation = self._here()
        activation.hosted.host.let_go(activation, "explicit")

    def every(self, seconds: float, method: str) -> None:
        """Send this entity its own message `method` every `seconds`, until it is let go.

        A message that is still waiting is not doubled. These messages do not keep the entity alive.
        """
        activation = self._here()
        activation.hosted.host.repeat(activation, seconds, method)

    def _here(self) -> Activation:
        try:
            return self._activation
        except AttributeError:
            raise RuntimeError(
                f"this {type(self).__name__} lives in no cluster: it was made by calling the class; "
                "get one with cluster.entity(...), or in tests from cluster_app.testing.MemoryCluster"
            ) from None
