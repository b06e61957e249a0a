"""What is set on Ray's gauges: names, labels, and the numbers of Prometheus."""

from __future__ import annotations

import logging

import pytest

from observe.instruments import LATENCY_EDGES_S, cluster
from observe.metrics import MetricsSnapshot
from observe.ray_metrics import RayMetrics
from observe.totals import PointKey, PointValue, Totals

SENT = "cluster_messages_sent_total"
LATENCY = "cluster_message_latency_seconds"


class Page:
    """Stands for Ray's metrics: takes what is set, and refuses what Ray's gauges refuse."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def gauge(self, name: str, description: str, labels: tuple[str, ...]) -> PageGauge:
        """Make a gauge."""
        assert description
        self.made.append(name)
        return PageGauge(self, name, labels)

    def value(self, name: str, **labels: str) -> float:
        """The value of exactly these labels."""
        return self.series[name, frozenset(labels.items())]

    def count(self, name: str) -> int:
        """The number of series of a name."""
        return sum(series == name for series, _ in self.series)


class PageGauge:
    def __init__(self, page: Page, name: str, labels: tuple[str, ...]) -> None:
        self.page, self.name, self.labels = page, name, labels

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.labels)
        assert all(type(text) is str for text in tags.values())
        self.page.series[self.name, frozenset(tags.items())] = value


def points(*pairs: tuple[PointKey, PointValue]) -> Totals:
    """Totals of these points."""
    return Totals(dict(pairs))


def test_a_counter_and_a_gauge_keep_their_names() -> None:
    """The value set is the whole total; a metric without labels has one series."""
    page = Page()
    metrics = RayMetrics(page.gauge)
    metrics.publish(points(((SENT, ("Plane", "send")), 3), (("cluster_shards", ()), 300.0)))
    metrics.publish(points(((SENT, ("Plane", "send")), 5), (("cluster_shards", ()), 120.0)))
    assert page.value(SENT, entity_type="Plane", operation="send") == 5
    assert page.value("cluster_shards") == 120.0
    assert page.made == [SENT, "cluster_shards"]


def test_a_histogram_has_every_edge_from_its_first_value_on() -> None:
    """Counts are cumulative, each edge is inclusive, +Inf is the count, and the sum is that of the values."""
    counts = (1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 8)
    page = Page()
    RayMetrics(page.gauge).publish(points(((LATENCY, ("Plane", "send", "ok")), (counts, 0.1 + 0.2))))
    labels = {"entity_type": "Plane", "operation": "send", "outcome": "ok"}
    edges = ("0.0001", "0.00025", "0.0005", "0.001", "0.01", "0.05", "0.1", "0.5", "1.0", "5.0", "+Inf")
    assert [page.value(f"{LATENCY}_bucket", le=edge, **labels) for edge in edges] == [
        *(1, 1, 3, 3, 3, 3, 7, 7, 7, 7, 15)
    ]
    assert page.count(f"{LATENCY}_bucket") == len(edges) == len(LATENCY_EDGES_S) + 1
    assert page.value(f"{LATENCY}_sum", **labels) == 0.1 + 0.2
    assert page.value(f"{LATENCY}_count", **labels) == 15


def test_every_declared_metric_can_be_published() -> None:
    """Each kind with its own labels; what is not declared is left out."""
    page = Page()
    everything: dict[PointKey, PointValue] = {("made_up_total", ()): 1}
    for instrument in cluster:
        labels = tuple(f"some {label}" for label in instrument.labels)
        value: PointValue = 1 if instrument.kind == "counter" else 1.0
        if instrument.bounds is not None:
            value = ((1,) * (len(instrument.bounds) + 1), 2.5)
        everything[instrument.name, labels] = value
    RayMetrics(page.gauge).publish(Totals(everything))
    expected = {
        name
        for instrument in cluster
        for name in (
            [instrument.name]
            if instrument.bounds is None
            else [f"{instrument.name}_{part}" for part in ("bucket", "sum", "count")]
        )
    }
    assert {name for name, _ in page.series} == expected
    assert set(page.made) == expected and len(page.made) == len(expected)


def test_label_sets_beyond_the_bound_are_added_up_in_one(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost and no name gets more series than Ray takes; those who came first keep theirs."""
    page = Page()
    metrics = RayMetrics(page.gauge, most=33)  # three label sets of eleven edges
    every: dict[PointKey, PointValue] = {}
    with caplog.at_level(logging.WARNING):
        for number in range(8):
            counts = (number + 1, *(0,) * 10)
            every[LATENCY, (f"T{number}", "send", "ok")] = (counts, float(number))
            metrics.publish(Totals(every))
    bucket = f"{LATENCY}_bucket"
    assert page.count(bucket) == 33
    own = {"operation": "send", "outcome": "ok", "le": "0.0001"}
    assert [page.value(bucket, entity_type=f"T{number}", **own) for number in range(2)] == [1, 2]
    rest = {"entity_type": "other", "operation": "other", "outcome": "other"}
    assert page.value(f"{LATENCY}_count", **rest) == 3 + 4 + 5 + 6 + 7 + 8
    assert page.value(f"{LATENCY}_sum", **rest) == 2.0 + 3 + 4 + 5 + 6 + 7
    told = [record for record in caplog.records if record.name == "observe.ray_metrics"]
    assert [LATENCY in record.getMessage() for record in told] == [True]
    total = sum(value for (name, _), value in page.series.items() if name == f"{LATENCY}_count")
    assert total == MetricsSnapshot(Totals(every)).value(LATENCY)


def test_a_label_that_is_called_other_shares_the_place_of_the_rest() -> None:
    """What user code counts under `other` is not replaced by what did not fit."""
    page = Page()
    metrics = RayMetrics(page.gauge, most=2)
    metrics.publish(
        points(((SENT, ("other", "other")), 10), ((SENT, ("A", "send")), 1), ((SENT, ("B", "send")), 2))
    )
    assert page.value(SENT, entity_type="other", operation="other") == 13
    assert page.count(SENT) == 1


def test_a_sum_does_not_go_down_by_the_order_of_addition() -> None:
    """`rate()` takes a counter that goes down for one that began anew; one that did begin anew is shown as it is."""
    page = Page()
    metrics = RayMetrics(page.gauge)
    key = (LATENCY, ("Plane", "send", "ok"))
    labels = {"entity_type": "Plane", "operation": "send", "outcome": "ok"}
    counts = (3, *(0,) * 10)
    before, after = (0.1 + 0.2) + 0.3, 0.1 + (0.2 + 0.3)
    assert after < before
    metrics.publish(points((key, (counts, before))))
    metrics.publish(points((key, (counts, after))))
    assert page.value(f"{LATENCY}_sum", **labels) == before
    metrics.publish(points((key, ((1, *(0,) * 10), 0.1))))
    assert page.value(f"{LATENCY}_sum", **labels) == 0.1
