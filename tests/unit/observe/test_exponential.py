"""Exponential histograms: several added up are what the SDK makes of all their values at once, to the bucket."""

from __future__ import annotations

import pickle
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from observe.exponential import Buckets, ExponentialTotal
from observe.journal_state import decode, encode
from observe.otlp import Temporality, metrics_data
from observe.reading import Reading
from observe.totals import Totals, merge, subtract
from observe.user_series import Stream, key_of

WILD = Stream("app", "1", "", "{}", "wild", "s", "exponential", (), "")
KEY = key_of(WILD, {"x": "a"})

values = st.lists(
    st.one_of(
        st.just(0), st.integers(1, 2**40), st.floats(1e-12, 1e12), st.sampled_from([0.5, 1.0, 2.0, 1e300])
    ),
    max_size=20,
)


def total(numbers: list[float]) -> ExponentialTotal:
    """What the SDK makes of these values."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="wild", aggregation=ExponentialBucketHistogramAggregation())
    histogram = (
        MeterProvider([reader], shutdown_on_exit=False, views=[view])
        .get_meter("app")
        .create_histogram("wild")
    )
    for number in numbers:
        histogram.record(number)
    data = reader.get_metrics_data()
    if data is None:
        return ExponentialTotal(0, 0.0)
    found: Any = data  # it may be of any kind
    (point,) = found.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    positive, negative = (
        Buckets.of(dict(enumerate(buckets.bucket_counts, buckets.offset)))
        for buckets in (point.positive, point.negative)
    )
    return ExponentialTotal(point.scale, float(point.sum), point.zero_count, positive, negative)


@settings(deadline=None, max_examples=60)  # the SDK makes a provider for each part
@given(st.lists(values, min_size=1, max_size=4))
def test_parts_added_up_are_one_histogram_of_all(parts: list[list[float]]) -> None:
    """In any order, at the scale that this one has."""
    whole = total([number for part in parts for number in part])
    for order in (parts, parts[::-1]):
        found = reduce(add, map(total, order))
        assert found.sum == pytest.approx(whole.sum)
        assert found == ExponentialTotal(whole.scale, found.sum, whole.zero, whole.positive, whole.negative)
        assert found.count == sum(map(len, parts))


@settings(deadline=None, max_examples=60)  # the SDK makes a provider for each part
@given(values, values)
def test_what_came_since_is_what_later_totals_hold_beyond_earlier_ones(
    before: list[float], since: list[float]
) -> None:
    """At the later scale, which is never above the earlier one."""
    earlier, later = total(before), total(before) + total(since)
    found = later - earlier
    assert found.count == len(since) and found.scale == later.scale
    assert later.scale <= earlier.scale or not any(before)
    assert earlier + found == ExponentialTotal(
        later.scale, (earlier + found).sum, later.zero, later.positive, later.negative
    )
    if since:
        with pytest.raises(ValueError, match="hold more"):
            _ = earlier - later


def test_values_of_both_signs_far_apart_need_a_lower_scale() -> None:
    """No more buckets of a sign than the SDK would have; each value in the one that its edges say."""
    near = ExponentialTotal(20, 1.0, 0, Buckets(0, (1,)), Buckets(5, (2,)))
    far = ExponentialTotal(20, 1e9, 1, Buckets(1 << 24, (1,)), Buckets())
    found = near + far
    assert found == ExponentialTotal(3, 1e9 + 1.0, 1, Buckets(0, (1, *(0,) * 127, 1)), Buckets(0, (2,)))


def test_they_add_up_travel_to_disk_and_leave_as_other_points_do() -> None:
    """Cumulative, and as a delta where histograms are told so."""
    one, two = total([0, 1.5, 3.0]), total([1000.0])
    totals = merge([Totals({KEY: one}), Totals({KEY: two})])
    assert decode(encode(totals)) == pickle.loads(pickle.dumps(totals)) == totals == {KEY: one + two}
    assert subtract(totals, Totals({KEY: one})) == {KEY: (one + two) - one}
    with pytest.raises(ValueError, match="not of one kind"):
        merge([totals, Totals({KEY: ((1,), 1.0)})])
    with pytest.raises(ValueError, match="hold more"):
        subtract(Totals({KEY: one}), totals)
    for temporality, expected in (
        (Temporality(), one + two),
        (Temporality(histogram=AggregationTemporality.DELTA), (one + two) - one),
    ):
        reading = Reading(1.0, 5.0, 9.0, totals, Totals({KEY: one}), Totals(), Totals())
        sent = encode_metrics(metrics_data(reading, temporality, Resource.get_empty(), "1"))
        (metric,) = sent.resource_metrics[0].scope_metrics[0].metrics
        (point,) = metric.exponential_histogram.data_points
        assert (metric.name, metric.unit, point.attributes[0].key) == ("wild", "s", "x")
        assert (point.scale, point.zero_count, point.sum) == (expected.scale, expected.zero, expected.sum)
        assert (point.positive.offset, tuple(point.positive.bucket_counts)) == (
            expected.positive.offset,
            expected.positive.counts,
        )
        assert point.count == expected.count and not point.HasField("max")
        delta = temporality.histogram is AggregationTemporality.DELTA
        assert metric.exponential_histogram.aggregation_temporality == (1 if delta else 2)
        assert point.start_time_unix_nano == (5 if delta else 1) * 1_000_000_000
