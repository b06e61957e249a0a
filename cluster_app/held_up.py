"""What held up the shards that a runner was asked for: the handlers that ran on longest.

Pure. What runs is `runner`'s to name; readings of its clock come in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from cluster_app.shard import ShardId

__all__ = ["HeldUp"]

_MOST = 5
_WORTH_S = 0.1  # what holds a shard up for less is how it always goes


class HeldUp:
    """The handlers that shards had to wait for, since the runner last had none to let go."""

    def __init__(self) -> None:
        self._waiting: dict[ShardId, tuple[float, list[str]]] = {}
        self._longest: list[tuple[float, str]] = []

    def asked(self, running: Iterable[tuple[ShardId, list[str]]], now: float) -> None:
        """Shards are to be let go, and wait for what runs there, each ``Type/id.method``."""
        if not self._waiting:
            self._longest = []
        for shard, names in running:
            _, others = self._waiting.setdefault(shard, (now, []))
            others.extend(names)

    def released(self, shard: ShardId, now: float) -> None:
        """A shard waits no more."""
        since, names = self._waiting.pop(shard, (now, []))
        if now - since >= _WORTH_S:
            mine = [(now - since, name) for name in names]
            self._longest = heapq.nlargest(_MOST, [*self._longest, *mine])

    @property
    def longest(self) -> tuple[tuple[str, float], ...]:
        """Those that took longest, each with the seconds that its shard waited; the longest first."""
        return tuple((name, seconds) for seconds, name in self._longest)
