"""Reading metrics: values, histograms, quantiles, points, and clear errors for what does not exist."""

from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observe.instruments import LATENCY_EDGES_S, cluster
from observe.metrics import HistogramView, MetricsSnapshot, Point, snapshot
from observe.recorder import Recorder
from observe.totals import Totals

SENT = "cluster_messages_sent_total"
LATENCY = "cluster_message_latency_seconds"


@pytest.fixture
def view() -> MetricsSnapshot:
    """Three counter series, two histogram series, two gauges."""
    fast = (0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    slow = (0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1)
    return MetricsSnapshot(
        Totals(
            {
                (SENT, ("B", "send")): 3,
                (SENT, ("A", "broadcast")): 10,
                (SENT, ("A", "send")): 2,
                (LATENCY, ("A", "send", "ok")): (fast, 0.0002),
                (LATENCY, ("A", "send", "error")): (slow, 7.0),
                ("cluster_entities", ("A",)): 4.0,
                ("cluster_runners", ()): 2.0,
            }
        )
    )


def test_a_value_is_the_sum_of_the_points_that_match(view: MetricsSnapshot) -> None:
    """Labels that are not given match anything."""
    assert view.value(SENT) == 15
    assert view.value(SENT, entity_type="A") == 12
    assert view.value(SENT, operation="send") == 5
    assert view.value(SENT, operation="send", entity_type="B") == 3
    assert view.value("cluster_entities") == 4
    assert view.value("cluster_runners") == 2
    assert isinstance(view.value(SENT), float)


def test_the_value_of_a_histogram_is_its_count(view: MetricsSnapshot) -> None:
    """So that sent and settled can be compared by the same call."""
    assert view.value(LATENCY) == 4
    assert view.value(LATENCY, outcome="error") == 3


def test_a_label_can_be_asked_for_as_it_was_given(view: MetricsSnapshot) -> None:
    """A class stands for its name, as when it was counted."""

    class A:
        """An entity's class."""

    assert view.value(SENT, entity_type=A) == 12


def test_what_is_declared_and_not_counted_yet_is_zero(view: MetricsSnapshot) -> None:
    """Nothing has happened: that is a number, not an error."""
    assert view.value("cluster_errors_total", type="Timeout") == 0.0
    assert view.value(SENT, entity_type="Nobody") == 0.0
    empty = view.histogram("cluster_mailbox_wait_seconds")
    assert (empty.count, empty.sum, empty.bucket_counts) == (0, 0.0, (0,) * 11)
    assert math.isnan(empty.quantile(0.5))


def test_an_undeclared_name_is_an_error_that_suggests_the_right_one(view: MetricsSnapshot) -> None:
    """A misspelt name in an alert would otherwise be silent for ever."""
    with pytest.raises(KeyError) as caught:
        view.value("cluster_message_sent_total")
    text = "no metric is called 'cluster_message_sent_total'; did you mean cluster_messages_sent_total"
    assert str(caught.value).startswith(text)
    with pytest.raises(KeyError, match="declared are: cluster_messages_sent_total, "):
        view.histogram("zzz")


def test_a_label_that_the_metric_does_not_have_is_an_error(view: MetricsSnapshot) -> None:
    """It would match nothing, which looks like zero."""
    with pytest.raises(ValueError, match="has no label method; its labels: entity_type, operation"):
        view.value(SENT, method="m")
    with pytest.raises(ValueError, match="has no label entity_type; its labels: none"):
        view.value("cluster_runners", entity_type="A")
    with pytest.raises(ValueError, match="is a counter"):
        view.histogram(SENT)


def test_a_histogram_adds_the_matching_series_up(view: MetricsSnapshot) -> None:
    """Counts per bucket and sums of several series become one."""
    both = view.histogram(LATENCY, entity_type="A")
    assert both == HistogramView(
        count=4, sum=7.0002, bounds=LATENCY_EDGES_S, bucket_counts=(0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 1)
    )
    assert view.histogram(LATENCY, outcome="ok").count == 1


def test_names_are_those_with_points_sorted(view: MetricsSnapshot) -> None:
    """A metric that nothing caused yet is not listed."""
    assert view.names() == ["cluster_entities", LATENCY, SENT, "cluster_runners"]
    assert MetricsSnapshot().names() == []


def test_iteration_gives_each_series_as_a_point_in_order(view: MetricsSnapshot) -> None:
    """Name, labels by name, value, and the buckets where there are any."""
    points = list(view)
    assert points[0] == Point("cluster_entities", {"entity_type": "A"}, 4.0)
    assert points[1].labels == {"entity_type": "A", "operation": "send", "outcome": "error"}
    assert points[1].value == 3
    assert points[1].histogram is not None
    assert points[1].histogram.sum == 7.0
    assert [point.labels for point in points if point.name == SENT] == [
        {"entity_type": "A", "operation": "broadcast"},
        {"entity_type": "A", "operation": "send"},
        {"entity_type": "B", "operation": "send"},
    ]


def test_a_metric_of_another_version_is_passed_over() -> None:
    """What this version has no declaration for has no labels to show."""
    strange = MetricsSnapshot(Totals({("cluster_from_the_future", ("x",)): 1, (SENT, ("A", "send")): 1}))
    assert strange.names() == [SENT]
    assert [point.name for point in strange] == [SENT]


def test_a_snapshot_is_frozen_and_pickles(view: MetricsSnapshot) -> None:
    """It is a value: it can be kept, compared and sent."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.totals = Totals()  # type: ignore[misc]  # the fault
    assert pickle.loads(pickle.dumps(view)) == view


BOUNDS = (1.0, 2.0, 4.0)


def histogram(*bucket_counts: int) -> HistogramView:
    """A histogram with edges 1, 2 and 4."""
    return HistogramView(sum(bucket_counts), 0.0, BOUNDS, bucket_counts)


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((4, 0, 0, 0), 0.5, 0.5),  # half of the way from zero to the first edge
        ((0, 4, 0, 0), 0.5, 1.5),
        ((0, 0, 4, 0), 0.25, 2.5),
        ((2, 2, 0, 0), 0.5, 1.0),  # exactly at an edge
        ((2, 0, 2, 0), 0.5, 1.0),  # at the edge before an empty bucket, not beyond it
        ((2, 0, 2, 0), 0.75, 3.0),  # over an empty bucket
        ((2, 0, 2, 0), 1.0, 4.0),
        ((1, 1, 1, 1), 0.99, 4.0),  # above the highest edge it can say no more
        ((0, 0, 0, 3), 0.1, 4.0),
        ((0, 3, 0, 0), 0.0, 1.0),  # the lower edge of the first bucket that holds anything
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(
    counts: tuple[int, ...], q: float, expected: float
) -> None:
    """Linear within the bucket, from zero in the lowest, the highest edge for the overflow."""
    assert histogram(*counts).quantile(q) == expected


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_share_outside_zero_to_one_is_refused(q: float) -> None:
    """A percentage given as 99 is a mistake and not infinity."""
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        histogram(1, 0, 0, 0).quantile(q)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_has_a_smaller_quantile(counts: list[int], one: float, other: float) -> None:
    """Quantiles grow with their share, and stay within the edges."""
    low, high = sorted([one, other])
    view = histogram(*counts)
    assert 0.0 <= view.quantile(low) <= view.quantile(high) <= 4.0


def test_the_snapshot_of_a_process_has_all_its_recorders_and_their_gauges() -> None:
    """Live ones, closed ones, and gauges as they are at this moment."""
    live, closed = Recorder(), Recorder()
    for recorder in (live, closed):
        recorder.counter(cluster.entity_activations, entity_type="Snapshot").value += 2
        recorder.add_gauges(lambda: [(cluster.entities, {"entity_type": "Snapshot"}, 5.0)])
    closed.close()
    taken = snapshot()
    live.close()
    assert taken.value("cluster_entity_activations_total", entity_type="Snapshot") == 4
    assert taken.value("cluster_entities", entity_type="Snapshot") == 5
    assert snapshot().value("cluster_entity_activations_total", entity_type="Snapshot") == 4
    assert snapshot().value("cluster_entities", entity_type="Snapshot") == 0
