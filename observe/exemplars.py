"""Exemplars: for each bucket of a histogram the latest sampled message that fell into it.

Decides which one is kept. Does not decide what is sampled, nor how a point carries them: `for_point` makes the SDK's.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from observe.instruments import cluster
from observe.totals import PointKey

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar

__all__ = ["Exemplar", "Exemplars"]

_BOUNDS = {instrument.name: instrument.bounds for instrument in cluster if instrument.bounds is not None}


class Exemplar(NamedTuple):
    """One recorded value and the span in which it was.

    :ivar at_ns: Unix time.
    """

    value: float
    at_ns: int
    trace_id: int
    span_id: int


class Exemplars:
    """The latest exemplar of each bucket of each point. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[PointKey, dict[int, Exemplar]] = {}

    def note(self, key: PointKey, value: float, at_ns: int, trace_id: int, span_id: int) -> None:
        """A value was recorded at that point, in that span."""
        bucket = bisect_left(_BOUNDS[key[0]], value)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = {}
            before = kept.get(bucket)
            if before is None or before.at_ns <= at_ns:
                kept[bucket] = Exemplar(value, at_ns, trace_id, span_id)

    def merge(self, others: Mapping[PointKey, Iterable[Exemplar]]) -> None:
        """Take in what another process, or a report of it, has."""
        with self._lock:
            for key, exemplars in others.items():
                bounds = _BOUNDS.get(key[0])
                if bounds is None:
                    continue
                kept = self._kept.setdefault(key, {})
                for exemplar in exemplars:
                    bucket = bisect_left(bounds, exemplar.value)
                    before = kept.get(bucket)
                    if before is None or before.at_ns <= exemplar.at_ns:
                        kept[bucket] = exemplar

    def all(self) -> dict[PointKey, tuple[Exemplar, ...]]:
        """All that are kept, by point and in the order of the buckets."""
        with self._lock:
            return {key: tuple(kept[bucket] for bucket in sorted(kept)) for key, kept in self._kept.items()}

    def for_point(self, key: PointKey, since_ns: int = 0) -> list[SdkExemplar]:
        """Those of one point as the SDK has them, for its ``HistogramDataPoint``.

        :param since_ns: leave out what is older: with delta temporality, the start of the point's time.
        """
        with self._lock:
            kept = sorted(self._kept.get(key, {}).items())
        found = [exemplar for _, exemplar in kept if exemplar.at_ns >= since_ns]
        if not found:
            return []
        from opentelemetry.sdk.metrics import Exemplar as SdkExemplar

        nothing: dict[str, Any] = {}
        return [
            SdkExemplar(
                filtered_attributes=nothing,
                value=exemplar.value,
                time_unix_nano=exemplar.at_ns,
                span_id=exemplar.span_id,
                trace_id=exemplar.trace_id,
            )
            for exemplar in found
        ]
