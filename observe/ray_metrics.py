"""The node's metrics on Ray's own page: every total and gauge as `ray.util.metrics` can carry it.

Decides what a metric is called there and how it is carried. Does not decide when (`ray_publisher`) or what is in the
node's sums (`node_agent`).

All of it is carried by Ray's gauges, totals too: each time the whole total is set. Ray's counters take differences,
and would be wrong in two ways. Ray never drops the series of a counter whose process has ended, so each restart of an
agent, and each service that was shut down, would leave a full set of series behind and stay in every sum. And a
difference that had not left the process when that was killed, or when Ray's agent did not answer, would be lost for
good. A total that is set is whole again with the next time, and the series of an ended process is gone after two of
Ray's report intervals. `rate()` and `histogram_quantile()` do not ask for the type.

So a new agent begins with the full totals of its node. They are new series (by the label ``WorkerId``), and `rate()`
adds what comes after the first value of each. Until the old ones are gone, the greater value of two is the true one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from ray.util.metrics import Gauge

from observe.exponential import ExponentialTotal
from observe.instruments import Instrument, cluster
from observe.labels import OTHER
from observe.totals import HistogramTotal, PointKey, PointValue, Totals, merge

__all__ = ["MOST_SERIES", "GaugeMaker", "RayMetrics", "SettableGauge"]

logger = logging.getLogger(__name__)

MOST_SERIES = 1800
"""Series of one name from one process. The OpenTelemetry SDKs inside Ray take 2000, and mix up what is beyond."""

_INSTRUMENTS = {instrument.name: instrument for instrument in cluster}


class SettableGauge(Protocol):
    """What is used of a gauge of `ray.util.metrics`."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Make it the value of that set of labels."""


GaugeMaker = Callable[[str, str, tuple[str, ...]], SettableGauge]
"""Makes the gauge of a name, a description and label names."""


class RayMetrics:
    """Sets Ray's gauges to what a node has counted. One user at a time; any thread.

    A counter or gauge ``cluster_x`` is ``ray_cluster_x`` on the page. A histogram is what Prometheus makes of one:
    ``ray_cluster_x_bucket`` with the label ``le`` (upper edge, inclusive, cumulative, up to ``+Inf``),
    ``ray_cluster_x_sum`` and ``ray_cluster_x_count``. It has all its edges as soon as it has any. Points of metrics
    that are not declared are left out.

    :param make: makes Ray's gauges; one for each name, when it is first needed.
    :param most: series of one name; label sets that come later are added up in one, with ``other`` for each label.
    """

    def __init__(self, make: GaugeMaker = Gauge, most: int = MOST_SERIES) -> None:
        self._make = make
        self._most = most
        self._gauges: dict[str, SettableGauge] = {}
        # For each point, where its numbers go: bounded by `most`, for a point beyond it has no entry.
        self._series: dict[PointKey, list[tuple[SettableGauge, dict[str, str]]]] = {}
        self._room = {name: most // _width(instrument) for name, instrument in _INSTRUMENTS.items()}
        self._folded: set[str] = set()
        self._told: dict[PointKey, tuple[int, float]] = {}  # of each histogram: count and sum

    def publish(self, points: Totals) -> None:
        """Set every gauge to the node's totals and gauges as they are now."""
        for key, value in self._bounded(points).items():
            assert not isinstance(value, ExponentialTotal)  # a user's own, and none of those is here
            numbers = (value,) if not isinstance(value, tuple) else self._of_histogram(key, value)
            for (gauge, tags), number in zip(self._series[key], numbers, strict=True):
                gauge.set(number, tags)

    def _of_histogram(self, key: PointKey, value: HistogramTotal) -> tuple[float, ...]:
        """A histogram's numbers in the order of its series: cumulative counts, sum, count.

        Parts of a node's sum are added in another order when a process ends, and the last bit of a sum of floats may go
        down with it. `rate()` would take that for a restart, and add the whole sum again: so it never goes down as long
        as the count does not.
        """
        counts, values_sum = value
        cumulative = tuple(accumulate(counts))
        count = cumulative[-1]
        before = self._told.get(key)
        if before is not None and before[0] <= count:
            values_sum = max(values_sum, before[1])
        self._told[key] = count, values_sum
        return (*cumulative, values_sum, count)

    def _bounded(self, points: Totals) -> Mapping[PointKey, PointValue]:
        """The declared points, each with its place in `_series`; those without room added up."""
        inside: dict[PointKey, PointValue] = {}
        beyond: list[Totals] = []
        for key, value in points.items():
            name, labels = key
            if name not in _INSTRUMENTS:
                continue
            if key in self._series or self._placed(key):
                inside[key] = value
            else:
                beyond.append(Totals({(name, (OTHER,) * len(labels)): value}))
        return merge([Totals(inside), *beyond]) if beyond else inside

    def _placed(self, key: PointKey) -> bool:
        """Give the point its series, if there is room."""
        name, labels = key
        instrument = _INSTRUMENTS[name]
        if self._room[name] <= 1 and labels:  # the last place is kept for all others
            self._fold(instrument)
            return False
        self._room[name] -= 1
        self._series[key] = list(self._series_of(instrument, labels))
        return True

    def _fold(self, instrument: Instrument) -> None:
        if instrument.name in self._folded:
            return
        self._folded.add(instrument.name)
        rest = (OTHER,) * len(instrument.labels)
        self._series.setdefault((instrument.name, rest), list(self._series_of(instrument, rest)))
        logger.warning(
            "%s has more label sets than Ray's metrics hold: on Ray's page those that come from here on are added up "
            "under the label value %r",
            instrument.name,
            OTHER,
        )

    def _series_of(
        self, instrument: Instrument, labels: tuple[str, ...]
    ) -> Iterator[tuple[SettableGauge, dict[str, str]]]:
        tags = dict(zip(instrument.labels, labels, strict=True))
        if instrument.bounds is None:
            yield self._gauge(instrument, instrument.name, instrument.labels), tags
            return
        buckets = self._gauge(instrument, f"{instrument.name}_bucket", (*instrument.labels, "le"))
        for edge in (*map(repr, instrument.bounds), "+Inf"):
            yield buckets, {**tags, "le": edge}
        yield self._gauge(instrument, f"{instrument.name}_sum", instrument.labels), tags
        yield self._gauge(instrument, f"{instrument.name}_count", instrument.labels), tags

    def _gauge(self, instrument: Instrument, name: str, labels: tuple[str, ...]) -> SettableGauge:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = self._make(name, instrument.description, labels)
        return gauge


def _width(instrument: Instrument) -> int:
    """Series of one name that one label set takes."""
    return 1 if instrument.bounds is None else len(instrument.bounds) + 1
