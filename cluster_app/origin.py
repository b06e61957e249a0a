"""Where a runner's messages come from, and where they go: with an answer, or back.

A host knows of an `Answerable` only. That a message may go back is the runner's business, as is the shard that it is
refused for: so all that a runner accepts comes from a `Returning`.
"""

from __future__ import annotations

from typing import Protocol, cast

from cluster_app.shard import ShardId
from entities.delivery import Answerable, Delivery

__all__ = ["Origin", "Returning", "send_back"]


class Returning(Answerable, Protocol):
    """What an accepted message came by: its `Origin`, a broadcast's part, or what follows it to one of these."""

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        """A message that was taken and has not started goes back: its shard leaves this runner."""
        ...


class Origin(Returning, Protocol):
    """Where messages come from: a lane, or this very process.

    :ivar unanswered: the accepted messages, by sequence number.
    """

    unanswered: dict[int, Delivery]

    def admits(self, shard: ShardId, stream: int) -> bool:
        """Whether messages of this stream are let in: after a refusal only a restarted stream is."""
        ...

    def fail(self, sequence: int, error: BaseException) -> None:
        """The message ended before it was accepted."""
        ...


def send_back(delivery: Delivery) -> None:
    """Give back a message of this runner that was taken and has not started: its shard leaves."""
    activation = delivery.activation
    assert activation is not None  # it was accepted
    shard = ShardId(activation.hosted.definition.options.group, activation.shard)
    cast(Returning, delivery.origin).send_back(delivery, shard)
