"""What the cluster's metrics grew by during one replay.

It decides which metrics a replay reports. A cluster outlives its drivers and its
counters never start again, so each figure is the later reading less the earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence

from observe.metrics import HistogramView, MetricsSnapshot

__all__ = ["Growth"]

LATENCY = "cluster_message_latency_seconds"


class Growth:
    """Two readings of one cluster.

    `before` is taken ahead of the first message and `after` behind the last reply.
    """

    def __init__(self, before: MetricsSnapshot, after: MetricsSnapshot, types: Sequence[str]) -> None:
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
        bounds: tuple[float, ...] = ()
        counts: list[int] = []
        total = 0.0
        for kind in self._types:
            for reading, sign in ((self._after, 1), (self._before, -1)):
                view = reading.histogram(LATENCY, entity_type=kind, operation="send")
                bounds, counts = view.bounds, counts or [0] * len(view.bucket_counts)
                counts = [sum_ + sign * count for sum_, count in zip(counts, view.bucket_counts, strict=True)]
                total += sign * view.sum
        grown = HistogramView(sum(counts), total, bounds, tuple(counts))
        return [grown.quantile(q) if grown.count else None for q in quantiles]
