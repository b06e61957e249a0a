"""An exporter of the SDK that a test holds in its hands, and a way to read what it got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

__all__ = ["DELTA", "FakeExporter", "points"]

DELTA: dict[type, AggregationTemporality] = {
    Counter: AggregationTemporality.DELTA,
    Histogram: AggregationTemporality.DELTA,
}


class FakeExporter(MetricExporter):
    """Keeps what it gets, and answers what the test says.

    :ivar arrived: what has been taken, in order; also where the answer said otherwise.
    :ivar asked: how often it was to export something.
    :ivar answer: what `export` does: an outcome, or something to call for one.
    :ivar lost: whether what comes does not arrive.
    """

    def __init__(self, preferred: dict[type, AggregationTemporality] | None = None) -> None:
        super().__init__(preferred_temporality=preferred)
        self.arrived: list[MetricsData] = []
        self.answer: MetricExportResult | Callable[[], MetricExportResult] = MetricExportResult.SUCCESS
        self.lost = False
        self.asked = 0
        self.closed = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.asked += 1
        if not self.lost:
            self.arrived.append(metrics_data)
        return self.answer() if callable(self.answer) else self.answer

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.closed = True


def points(data: MetricsData) -> dict[tuple[str, tuple[Any, ...]], Any]:
    """The points of an export, by metric and label values."""
    return {
        (metric.name, tuple((point.attributes or {}).values())): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
