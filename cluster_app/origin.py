"""Where a runner's messages come from, and their answers go."""

from __future__ import annotations

from typing import Protocol

from cluster_app.shard import ShardId
from entities.delivery import Answerable, Delivery

__all__ = ["Origin"]


class Origin(Answerable, Protocol):
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
