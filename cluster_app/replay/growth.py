"""What the cluster's metrics grew by during one replay.

It decides which metrics a replay reports and what a latency quantile is. A cluster outlives its drivers and its
counters never start again, so each figure is the later reading less the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cluster_app.replay.port import Reading

__all__ = ["Growth", "quantile"]

LATENCY = "cluster_message_latency_seconds"


class Growth:
    """Two readings of one cluster.

    `before` is taken ahead of the first message and `after` behind the last reply.
    """

    def __init__(self, before: Reading, after: Reading, types: Sequence[str]) -> None:
        self._before = before
        self._after = after
        self._types = types

    def counts(self, name: str) -> dict[str, int]:
        """A counter's growth by entity type."""
        return {
            kind: int(self._after.value(name, entity_type=kind) - self._before.value(name, entity_type=kind))
            for kind in self._types
        }

    def live(self) -> dict[str, int]:
        """Live entities by type, now: a gauge, of which the later reading is all that counts."""
        return {kind: int(self._after.value("cluster_entities", entity_type=kind)) for kind in self._types}

    def latency_s(self, *quantiles: float) -> list[float | None]:
        """Quantiles of the messages' latency in seconds; None when no reply came."""
        bounds, later = self._buckets(self._after)
        _, earlier = self._buckets(self._before)
        earlier = earlier or [0] * len(later)
        grown = [new - old for new, old in zip(later, earlier, strict=True)]
        return [quantile(bounds, grown, q) for q in quantiles]

    def _buckets(self, reading: Reading) -> tuple[Sequence[float], list[int]]:
        bounds: Sequence[float] = ()
        total: list[int] = []
        for kind in self._types:
            view = reading.histogram(LATENCY, entity_type=kind, operation="send")
            bounds = view.bounds
            counts = list(view.bucket_counts)
            total = [a + b for a, b in zip(total, counts, strict=True)] if total else counts
        return bounds, total


def quantile(bounds: Sequence[float], counts: Iterable[int], q: float) -> float | None:
    """The value below which a share `q` of the counted values lies, interpolated within its bucket.

    As Prometheus' ``histogram_quantile`` does it: the first bucket begins at 0, and what lies above the highest edge is
    told as that edge. None when nothing was counted.
    """
    buckets = list(counts)
    rank = q * sum(buckets)
    if not rank or math.isnan(rank):
        return None
    below = 0
    for index, count in enumerate(buckets):
        if count and below + count >= rank:
            if index >= len(bounds):
                break
            start = bounds[index - 1] if index else 0.0
            return start + (bounds[index] - start) * (rank - below) / count
        below += count
    return bounds[-1] if bounds else None
