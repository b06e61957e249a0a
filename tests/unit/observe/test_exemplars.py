"""Exemplars: the latest of each bucket, from all processes, as the SDK has them."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.resources import Resource

from observe.exemplars import Exemplar, Exemplars
from observe.otlp import Temporality, metrics_data
from observe.reading import Reading
from observe.totals import Totals

KEY = ("cluster_message_latency_seconds", ("Counter", "send", "ok"))
OTHER = ("cluster_message_latency_seconds", ("Counter", "send", "error"))


def test_each_bucket_keeps_its_latest() -> None:
    """By the time of the value, not by when it is told; an edge belongs to the bucket below it."""
    exemplars = Exemplars()
    exemplars.note(KEY, 0.0003, 10, 1, 1)
    exemplars.note(KEY, 0.0005, 20, 2, 2)
    exemplars.note(KEY, 0.00051, 15, 3, 3)
    exemplars.note(KEY, 0.0004, 12, 4, 4)
    exemplars.note(OTHER, 9.0, 1, 5, 5)
    assert exemplars.all() == {
        KEY: (Exemplar(0.0005, 20, 2, 2), Exemplar(0.00051, 15, 3, 3)),
        OTHER: (Exemplar(9.0, 1, 5, 5),),
    }


def test_those_of_several_processes_are_one() -> None:
    """A report repeats what it told before, and that changes nothing; other metrics than histograms have none."""
    node, one, two = Exemplars(), Exemplars(), Exemplars()
    one.note(KEY, 0.01, 10, 1, 1)
    two.note(KEY, 0.01, 20, 2, 2)
    for told in (one, two, one):
        node.merge(told.all())
    node.merge({("cluster_messages_sent_total", ("Counter", "send")): (Exemplar(1.0, 1, 1, 1),)})
    assert node.all() == two.all()


def test_they_leave_with_their_point() -> None:
    """On the histogram's own point, with ids and time as they were; only those of its time with delta temporality."""
    exemplars = Exemplars()
    exemplars.note(KEY, 0.3, 5_000_000_000, 0xAB << 120, 0xCD)
    counts = (0,) * 7 + (1,) + (0,) * 3
    totals = Totals({OTHER: (counts, 0.3), KEY: (counts, 0.3)})
    for since_s, expected in ((1.0, 1), (6.0, 0)):
        reading = Reading(1.0, since_s, 9.0, totals, Totals(), Totals(), Totals(), exemplars)
        from opentelemetry.sdk.metrics.export import AggregationTemporality

        temporality = Temporality() if expected else Temporality(histogram=AggregationTemporality.DELTA)
        sent = encode_metrics(metrics_data(reading, temporality, Resource.get_empty(), "1"))
        (metric,) = sent.resource_metrics[0].scope_metrics[0].metrics
        told = {
            next(
                pair.value.string_value for pair in point.attributes if pair.key == "outcome"
            ): point.exemplars
            for point in metric.histogram.data_points
        }
        assert len(told["ok"]) == expected and len(told["error"]) == 0
        for exemplar in told["ok"]:
            assert exemplar.as_double == 0.3 and exemplar.time_unix_nano == 5_000_000_000
            assert exemplar.trace_id[0] == 0xAB and exemplar.span_id[-1] == 0xCD
