"""A node's account as the SDK's metrics, in the temporality that is asked for.

Decides how our totals, and the user's own series beside them, look as OpenTelemetry points. The SDK has no way in for
sums that were made elsewhere, and its exporters send points as they get them: so points are built here, and deltas too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from observe.exemplars import Exemplars
from observe.exponential import ExponentialTotal
from observe.instruments import Instrument, cluster
from observe.reading import Reading
from observe.totals import PointKey, PointValue, Totals
from observe.user_series import Stream, attributes_of, is_user, stream_of

__all__ = ["SCOPE", "Temporality", "metrics_data"]

SCOPE = "cluster_app"
"""The instrumentation scope of all metrics of design's table."""

_INSTRUMENTS = {instrument.name: instrument for instrument in cluster}
_DELTA = AggregationTemporality.DELTA
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Temporality(NamedTuple):
    """How counters and histograms are told; up-down counters are always told cumulative, gauges as they are."""

    counter: AggregationTemporality = _CUMULATIVE
    histogram: AggregationTemporality = _CUMULATIVE

    @classmethod
    def preferred(cls, by_kind: Mapping[type, AggregationTemporality] | None) -> Temporality:
        """What an exporter of the SDK prefers, by class of instrument."""
        found = by_kind or {}
        return cls(found.get(Counter, _CUMULATIVE), found.get(Histogram, _CUMULATIVE))

    def of(self, kind: str) -> AggregationTemporality:
        """That of a kind of instrument."""
        return {"counter": self.counter, "histogram": self.histogram, "exponential": self.histogram}.get(
            kind, _CUMULATIVE
        )

    @property
    def has_delta(self) -> bool:
        """Whether anything is told as what was added since the last time."""
        return _DELTA in self


class _Span(NamedTuple):
    start_ns: int
    end_ns: int


def metrics_data(reading: Reading, temporality: Temporality, resource: Resource, version: str) -> MetricsData:
    """All that a reading holds, as one resource's metrics.

    Raises ValueError when a delta is asked for and more has been told than counted.
    """
    whole = _Span(_ns(reading.started_unix_s), _ns(reading.at_unix_s))
    since = _Span(_ns(reading.since_unix_s), _ns(reading.at_unix_s))
    untold = reading.untold() if temporality.has_delta else Totals()
    ours: dict[Instrument, dict[PointKey, PointValue]] = {}
    users: dict[Stream, dict[PointKey, PointValue]] = {}
    for key, value in _chosen(reading, untold, temporality):
        if is_user(key):
            users.setdefault(stream_of(key[0]), {})[key] = value
        elif key[0] in _INSTRUMENTS:
            ours.setdefault(_INSTRUMENTS[key[0]], {})[key] = value
    scopes = [
        ScopeMetrics(InstrumentationScope(SCOPE, version), _our_metrics(ours, temporality, whole, since), "")
    ]
    _give_exemplars(scopes[0], ours, reading.exemplars)
    by_scope: dict[tuple[str, str, str, str], list[Metric]] = {}
    for stream, points in users.items():
        metric = _user_metric(stream, points, temporality, whole, since)
        by_scope.setdefault(stream[:4], []).append(metric)
    for (name, own_version, schema_url, attributes), metrics in by_scope.items():
        scope = InstrumentationScope(
            name, own_version or None, schema_url or None, attributes_of(("", (attributes,)))
        )
        scopes.append(ScopeMetrics(scope, metrics, schema_url))
    return MetricsData([ResourceMetrics(resource, [scope for scope in scopes if scope.metrics], "")])


def _chosen(
    reading: Reading, untold: Totals, temporality: Temporality
) -> Iterable[tuple[PointKey, PointValue]]:
    for key, value in reading.totals.items():
        kind = stream_of(key[0]).kind if is_user(key) else _kind(key)
        if temporality.of(kind) is _CUMULATIVE:
            yield key, value
        elif key in untold:
            yield key, untold[key]
    yield from reading.gauges.items()
    yield from reading.readings.items()


def _kind(key: PointKey) -> str:
    instrument = _INSTRUMENTS.get(key[0])
    return "" if instrument is None else instrument.kind


def _our_metrics(
    found: Mapping[Instrument, Mapping[PointKey, PointValue]],
    temporality: Temporality,
    whole: _Span,
    since: _Span,
) -> list[Metric]:
    metrics: list[Metric] = []
    for instrument, points in found.items():
        told = [(dict(zip(instrument.labels, key[1], strict=True)), value) for key, value in points.items()]
        span = whole if temporality.of(instrument.kind) is _CUMULATIVE else since
        data = _data(instrument.kind, told, temporality, span, instrument.bounds or ())
        metrics.append(Metric(instrument.name, instrument.description, instrument.unit, data))
    return metrics


def _give_exemplars(
    scope: ScopeMetrics, found: Mapping[Instrument, Mapping[PointKey, PointValue]], exemplars: Exemplars
) -> None:
    """Put to each histogram point the sampled messages that it counts."""
    for metric, points in zip(scope.metrics, found.values(), strict=True):
        if isinstance(metric.data, HistogramData):
            told: Any = metric.data.data_points  # a list, made here and shown to nobody yet
            told[:] = [
                replace(point, exemplars=exemplars.for_point(key, point.start_time_unix_nano))
                for point, key in zip(list(told), points, strict=True)
            ]


def _user_metric(
    stream: Stream,
    points: Mapping[PointKey, PointValue],
    temporality: Temporality,
    whole: _Span,
    since: _Span,
) -> Metric:
    told = [(attributes_of(key), value) for key, value in points.items()]
    span = whole if temporality.of(stream.kind) is _CUMULATIVE else since
    data = _data(stream.kind, told, temporality, span, stream.bounds)
    return Metric(stream.name, stream.description, stream.unit, data)


def _data(
    kind: str,
    told: Iterable[tuple[dict[str, Any], PointValue]],
    temporality: Temporality,
    span: _Span,
    bounds: tuple[float, ...],
) -> Sum | Gauge | HistogramData | ExponentialHistogram:
    if kind == "histogram":
        return HistogramData(
            [_histogram_point(labels, value, span, bounds) for labels, value in told], temporality.of(kind)
        )
    if kind == "exponential":
        return ExponentialHistogram(
            [_exponential_point(labels, value, span) for labels, value in told], temporality.of(kind)
        )
    numbers = [NumberDataPoint(labels, *span, _number(value)) for labels, value in told]
    if kind == "gauge":
        return Gauge(numbers)
    return Sum(numbers, temporality.of(kind), is_monotonic=kind == "counter")


def _histogram_point(
    labels: dict[str, Any], value: PointValue, span: _Span, bounds: tuple[float, ...]
) -> HistogramDataPoint:
    assert isinstance(value, tuple)  # the agent lets in nothing else
    counts, total = value
    unknown: Any = None  # the least and the greatest value are not kept; the encoder leaves out what is None
    return HistogramDataPoint(labels, *span, sum(counts), total, list(counts), list(bounds), unknown, unknown)


def _exponential_point(
    labels: dict[str, Any], value: PointValue, span: _Span
) -> ExponentialHistogramDataPoint:
    assert isinstance(value, ExponentialTotal)  # the agent lets in nothing else
    positive, negative = (
        Buckets(buckets.offset, buckets.counts) for buckets in (value.positive, value.negative)
    )
    unknown: Any = None  # as above
    return ExponentialHistogramDataPoint(
        labels,
        *span,
        value.count,
        value.sum,
        value.scale,
        value.zero,
        positive,
        negative,
        0,
        unknown,
        unknown,
    )


def _number(value: PointValue) -> int | float:
    assert not isinstance(value, ExponentialTotal)
    return value[1] if isinstance(value, tuple) else value


def _ns(unix_s: float) -> int:
    return int(unix_s * 1_000_000_000)
