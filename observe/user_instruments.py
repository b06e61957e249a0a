"""The user's own OpenTelemetry instruments in this process: read for the reports to its node's agent.

Decides when a MeterProvider is set for them, and how their points are written. A process that holds entities gets one
of its own accord; any other process has to ask for it (`observe.telemetry`). A provider that the user has set is never
replaced. OpenTelemetry is loaded only by those who use it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from observe.exponential import Buckets, ExponentialTotal
from observe.totals import PointKey, PointValue, Totals, merge
from observe.user_series import Kind, Stream, key_of, stream_of

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, MetricsData
    from opentelemetry.sdk.metrics.view import View

__all__ = ["collected", "install", "offer", "offer_again", "reader"]

logger = logging.getLogger(__name__)

_API = "opentelemetry.metrics"

_lock = threading.Lock()
_reader: InMemoryMetricReader | None = None
_offered = False
_installed = False
_refused: set[str] = set()
_counted: dict[PointKey, PointValue] = {}


def offer() -> None:
    """This process holds entities: as soon as their code uses OpenTelemetry's metrics, have them leave.

    To be called again when more code has been loaded. Nothing happens where the user has set a provider.
    """
    global _offered
    _offered = True
    offer_again()


def offer_again() -> None:
    """The same later, if it was offered: code may come to use metrics at any time. Costs next to nothing."""
    global _offered
    if _offered and _reader is None and _API in sys.modules:
        try:
            install(())
        except RuntimeError as error:
            _offered = False  # as the user wants it; a provider stays for good
            logger.debug("%s", error)


def install(views: Sequence[View]) -> None:
    """Set a MeterProvider whose instruments leave by this process's reports. Doing it again does nothing.

    Raises RuntimeError when another provider is set.
    """
    global _installed
    from opentelemetry import metrics
    from opentelemetry.metrics._internal import _ProxyMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    if _installed:
        return
    present = metrics.get_meter_provider()
    if not isinstance(present, _ProxyMeterProvider):
        raise RuntimeError(
            f"this process has a MeterProvider already, {type(present).__module__}.{type(present).__qualname__}: "
            "give it telemetry.reader() as one of its metric_readers instead"
        )
    # Whose counts they are says the agent's resource. Nothing is to be sent at exit: the last report does that.
    own = MeterProvider([reader()], Resource.get_empty(), shutdown_on_exit=False, views=views)
    metrics.set_meter_provider(own)
    _installed = metrics.get_meter_provider() is own


def reader() -> MetricReader:
    """The reader by which this process's reports get the points; one for the whole process."""
    global _reader
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    with _lock:
        if _reader is None:
            _reader = (
                InMemoryMetricReader()
            )  # cumulative, whatever the variables prefer: the agent makes deltas
        return _reader


def collected() -> Totals:
    """All points of the user's instruments now, cumulative since they were made. Empty where there are none."""
    offer_again()
    if _reader is None:
        return Totals()
    with _lock:
        try:
            data = _reader.get_metrics_data()
        except Exception as error:  # a callback of the user's that does not come back, for one
            _refuse("", f"their points cannot be read: {error}")
            data = None
        return _whole(Totals() if data is None else _written(data))


def _whole(now: Totals) -> Totals:
    """The same, with no count missing or lower than it was: a callback may leave out what it told before."""
    readings: dict[PointKey, PointValue] = {}
    for key, value in now.items():
        if not stream_of(key[0]).adds_up:
            readings[key] = value
        elif _number(value) >= _number(_counted.get(key, 0)):
            _counted[key] = value
    return Totals({**_counted, **readings})


def _number(value: PointValue) -> float:
    if isinstance(value, ExponentialTotal):
        return value.count
    if isinstance(value, tuple):
        return sum(value[0]) if value[0] else value[1]
    return value


def _written(data: MetricsData) -> Totals:
    from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

    parts: list[Totals] = []
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            named = scope.scope
            attributes: Mapping[str, Any] = named.attributes or {}
            for metric in scope.metrics:
                found = metric.data
                kind: Kind
                if isinstance(found, Sum):
                    kind = "counter" if found.is_monotonic else "updown"
                elif isinstance(found, Gauge):
                    kind = "gauge"
                elif isinstance(found, Histogram):
                    kind = "histogram"
                else:
                    kind = "exponential"
                stream = Stream(
                    named.name,
                    named.version or "",
                    named.schema_url or "",
                    key_of(_NOBODY, attributes)[1][0],
                    metric.name,
                    metric.unit or "",
                    kind,
                    (),
                    metric.description or "",
                )
                for point in found.data_points:
                    written = _point(stream, point)
                    if written is not None:
                        parts.append(Totals(dict([written])))
    return merge(parts)


_NOBODY = Stream("", "", "", "{}", "", "", "counter", (), "")


def _point(stream: Stream, point: Any) -> tuple[PointKey, PointValue] | None:
    value: PointValue
    if stream.kind == "histogram":
        stream = stream._replace(bounds=tuple(float(bound) for bound in point.explicit_bounds))
        value = tuple(point.bucket_counts), float(point.sum)
    elif stream.kind == "exponential":
        value = ExponentialTotal(
            point.scale,
            float(point.sum),
            point.zero_count,
            *[
                Buckets.of(dict(enumerate(buckets.bucket_counts, buckets.offset)))
                for buckets in (point.positive, point.negative)
            ],
        )
    elif stream.kind == "counter":
        value = point.value if type(point.value) is int else ((), float(point.value))
    else:
        value = float(point.value)
    try:
        return key_of(stream, point.attributes or {}), value
    except (TypeError, ValueError) as error:
        _refuse(stream.name, f"attributes that cannot be written down: {error}")
        return None


def _refuse(name: str, why: str) -> None:
    """Once for each instrument: what it goes on recording does not leave, and that is no news."""
    if name not in _refused and len(_refused) < 100:
        _refused.add(name)
        logger.warning("OpenTelemetry instrument %s of the user's does not leave: %s", name or "(any)", why)
