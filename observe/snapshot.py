"""Totals as an answer: one frozen view to ask for values, histograms and points.

Decides how a metric is looked up and how a quantile is read out of buckets. Does not decide what is in it:
this process alone (`snapshot`), a node, or a cluster.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from observe.exponential import ExponentialTotal
from observe.instruments import Instrument, cluster
from observe.labels import normalised
from observe.recorder import process_gauges, process_totals
from observe.totals import HistogramTotal, PointValue, Totals, merge

__all__ = ["HistogramView", "MetricsSnapshot", "Point", "UnknownMetricError", "snapshot"]

_INSTRUMENTS = {instrument.name: instrument for instrument in cluster}


class UnknownMetricError(KeyError):
    """No metric of this name is declared; the text names the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the text as a quoted key


@dataclass(frozen=True, slots=True)
class HistogramView:
    """The matching points of a histogram, added up.

    :ivar count: how many values were recorded.
    :ivar sum: the sum of the values themselves, in the metric's unit.
    :ivar bounds: the upper bucket edges, each inclusive.
    :ivar bucket_counts: values per bucket, not cumulative; the last is what lies above the highest edge.
    """

    count: int
    sum: float
    bounds: tuple[float, ...]
    bucket_counts: tuple[int, ...]

    def quantile(self, q: float) -> float:
        """Estimate the value below which the share `q` (0 to 1) of the values lies; nan when there are none.

        Linear within a bucket, from zero in the lowest; above the highest edge it can only answer that edge:
        the rule of Prometheus' ``histogram_quantile``. Raises ValueError for a `q` outside 0 to 1.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile is asked for by a share from 0 to 1, not {q}")
        if not self.count:
            return math.nan
        rank = q * self.count
        for bucket, reached in enumerate(accumulate(self.bucket_counts)):
            inside = self.bucket_counts[bucket]
            # A bucket with nothing in it cannot hold the value: matters for q = 0 only.
            if reached >= rank and inside:
                if bucket == len(self.bounds):
                    break
                lower = self.bounds[bucket - 1] if bucket else 0.0
                return lower + (self.bounds[bucket] - lower) * (rank - (reached - inside)) / inside
        return self.bounds[-1]


@dataclass(frozen=True, slots=True)
class Point:
    """One series: a metric with one set of label values.

    :ivar value: the counter's or gauge's value; a histogram's count.
    :ivar histogram: a histogram's buckets, else None.
    """

    name: str
    labels: Mapping[str, str]
    value: float
    histogram: HistogramView | None = None


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """What had been counted at one moment; it does not change afterwards. Iterates over `Point`.

    :ivar missing: the processes that live and did not report when they were asked: what they had counted since their
        report before is not in it. Empty where every count is exact.
    """

    totals: Totals = field(default_factory=Totals)
    missing: tuple[str, ...] = ()

    def value(self, name: str, **labels: object) -> float:
        """Return the sum over the points that match; for a histogram the count of its values.

        Labels that are not given match anything. Nothing counted yet is 0.0. Raises UnknownMetricError (a
        KeyError) for a name that is not declared, ValueError for a label that the metric does not have.
        """
        return float(sum(_number(value) for value in self._matching(_declared(name), labels)))

    def histogram(self, name: str, **labels: object) -> HistogramView:
        """Return the sum of the matching points of a histogram.

        Raises as `value` does, and ValueError for a metric of another kind.
        """
        instrument = _declared(name)
        if instrument.bounds is None:
            raise ValueError(f"{name} is a {instrument.kind}: only a histogram has buckets")
        counts = [0] * (len(instrument.bounds) + 1)
        total = 0.0
        for value in self._matching(instrument, labels):
            if isinstance(value, tuple):
                counts = [left + right for left, right in zip(counts, value[0], strict=True)]
                total += value[1]
        return _view(instrument.bounds, (tuple(counts), total))

    def names(self) -> list[str]:
        """Return the names of the metrics that have at least one point, sorted."""
        return sorted({name for name, _ in self.totals if name in _INSTRUMENTS})

    def __iter__(self) -> Iterator[Point]:
        for (name, values), value in sorted(self.totals.items(), key=lambda item: item[0]):
            instrument = _INSTRUMENTS.get(name)
            if instrument is None:
                continue  # counted by a process of another version: it has no meaning here
            view = (
                _view(instrument.bounds, value)
                if instrument.bounds is not None and isinstance(value, tuple)
                else None
            )
            yield Point(name, dict(zip(instrument.labels, values, strict=True)), _number(value), view)

    def _matching(self, instrument: Instrument, labels: Mapping[str, object]) -> Iterator[PointValue]:
        strange = [label for label in labels if label not in instrument.labels]
        if strange:
            has = ", ".join(instrument.labels) or "none"
            raise ValueError(f"{instrument.name} has no label {', '.join(strange)}; its labels: {has}")
        wanted = [(instrument.labels.index(label), normalised(value)) for label, value in labels.items()]
        for (name, values), value in self.totals.items():
            if name == instrument.name and all(values[index] == text for index, text in wanted):
                yield value


def snapshot() -> MetricsSnapshot:
    """Return what this process alone has counted, over all its recorders, and its gauges as they are now."""
    return MetricsSnapshot(merge([process_totals(), process_gauges()]))


def _declared(name: str) -> Instrument:
    instrument = _INSTRUMENTS.get(name)
    if instrument is None:
        near = difflib.get_close_matches(name, _INSTRUMENTS, n=3)
        hint = (
            f"; did you mean {' or '.join(near)}?" if near else f"; declared are: {', '.join(_INSTRUMENTS)}"
        )
        raise UnknownMetricError(f"no metric is called {name!r}{hint}")
    return instrument


def _number(value: PointValue) -> float:
    if isinstance(value, ExponentialTotal):  # a user's own, which no name here leads to
        return float(value.count)
    return float(sum(value[0])) if isinstance(value, tuple) else float(value)


def _view(bounds: tuple[float, ...], total: HistogramTotal) -> HistogramView:
    counts, values_sum = total
    return HistogramView(count=sum(counts), sum=values_sum, bounds=bounds, bucket_counts=counts)
