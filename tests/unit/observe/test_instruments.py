"""The declared metrics: their names, kinds, labels and edges are a contract."""

from __future__ import annotations

import math
import re

import pytest

from observe.instruments import Instrument, cluster
from observe.metrics import snapshot

LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.01, 0.05, 0.1, 0.5, 1, 5)
LIFETIME = (1, 5, 30, 60, 300, 600, 1800, 3600)
BATCH = (1, 2, 5, 10, 50, 100, 500, 1000)

CONTRACT = {
    "messages_sent": ("cluster_messages_sent_total", "counter", ("entity_type", "operation"), None),
    "messages_received": ("cluster_messages_received_total", "counter", ("entity_type", "operation"), None),
    "redeliveries": ("cluster_redeliveries_total", "counter", ("entity_type", "reason"), None),
    "errors": ("cluster_errors_total", "counter", ("entity_type", "type", "operation"), None),
    "entity_activations": ("cluster_entity_activations_total", "counter", ("entity_type",), None),
    "entity_deactivations": (
        "cluster_entity_deactivations_total",
        "counter",
        ("entity_type", "reason"),
        None,
    ),
    "message_latency": (
        "cluster_message_latency_seconds",
        "histogram",
        ("entity_type", "operation", "outcome"),
        LATENCY,
    ),
    "entity_lifetime": ("cluster_entity_lifetime_seconds", "histogram", ("entity_type",), LIFETIME),
    "mailbox_wait": ("cluster_mailbox_wait_seconds", "histogram", ("entity_type",), LATENCY),
    "handler_duration": (
        "cluster_handler_duration_seconds",
        "histogram",
        ("entity_type", "method", "outcome"),
        LATENCY,
    ),
    "entity_activation": (
        "cluster_entity_activation_seconds",
        "histogram",
        ("entity_type", "outcome"),
        LATENCY,
    ),
    "slow_handlers": ("cluster_slow_handlers_total", "counter", ("entity_type", "method"), None),
    "entities": ("cluster_entities", "gauge", ("entity_type",), None),
    "mailbox_depth": ("cluster_mailbox_depth", "gauge", ("entity_type",), None),
    "runners": ("cluster_runners", "gauge", (), None),
    "runners_healthy": ("cluster_runners_healthy", "gauge", (), None),
    "shards": ("cluster_shards", "gauge", (), None),
    "singletons": ("cluster_singletons", "gauge", (), None),
    "shard_handoffs": ("cluster_shard_handoffs_total", "counter", ("reason", "outcome"), None),
    "shard_handoff": ("cluster_shard_handoff_seconds", "histogram", ("reason",), LATENCY),
    "batch_messages": ("cluster_batch_messages", "histogram", ("direction",), BATCH),
}


@pytest.mark.parametrize("attribute", CONTRACT)
def test_an_instrument_has_the_name_kind_labels_and_edges_of_the_contract(attribute: str) -> None:
    """Dashboards and alerts are written against these very names, labels and edges."""
    declared = getattr(cluster, attribute)
    assert (declared.name, declared.kind, declared.labels, declared.bounds) == CONTRACT[attribute]


def test_the_namespace_holds_the_contract_and_nothing_else() -> None:
    """Each metric is declared exactly once, and none beside the table."""
    assert [instrument.name for instrument in cluster] == [name for name, *_ in CONTRACT.values()]


@pytest.mark.parametrize("instrument", list(cluster), ids=lambda instrument: instrument.name)
def test_a_name_says_its_kind_and_unit_as_prometheus_asks(instrument: Instrument) -> None:
    """Counters end in _total, durations in _seconds with unit s, other units are UCUM annotations."""
    assert instrument.name.endswith("_total") == (instrument.kind == "counter")
    assert instrument.name.endswith("_seconds") == (instrument.unit == "s")
    assert instrument.unit == "s" or re.fullmatch(r"\{[a-z]+\}", instrument.unit)
    assert instrument.description.endswith(".")


@pytest.mark.parametrize("instrument", list(cluster), ids=lambda instrument: instrument.name)
def test_no_label_can_name_an_entity_or_a_process(instrument: Instrument) -> None:
    """Series are bounded because nothing unbounded can be a label."""
    allowed = {"entity_type", "operation", "reason", "type", "outcome", "method", "direction"}
    assert set(instrument.labels) <= allowed


def test_add_and_record_of_an_instrument_count_in_this_process() -> None:
    """A user's own code may count on the declared instruments."""
    cluster.messages_sent.add(entity_type="InstrumentAdd", operation="send")
    cluster.messages_sent.add(4, entity_type="InstrumentAdd", operation="send")
    cluster.entity_lifetime.record(30.0, entity_type="InstrumentAdd")
    seen = snapshot()
    assert seen.value("cluster_messages_sent_total", entity_type="InstrumentAdd") == 5
    view = seen.histogram("cluster_entity_lifetime_seconds", entity_type="InstrumentAdd")
    assert (view.count, view.sum, view.bucket_counts) == (1, 30.0, (0, 0, 1, 0, 0, 0, 0, 0, 0))


def test_a_counter_refuses_what_is_no_count() -> None:
    """A counter takes whole numbers from zero up, and nothing recorded."""
    with pytest.raises(ValueError, match="only grows"):
        cluster.messages_sent.add(-1, entity_type="A", operation="send")
    with pytest.raises(TypeError, match="whole"):
        cluster.messages_sent.add(0.5, entity_type="A", operation="send")  # type: ignore[arg-type]  # the fault
    with pytest.raises(TypeError, match="is a counter"):
        cluster.messages_sent.record(1.0, entity_type="A", operation="send")


@pytest.mark.parametrize("value", [-0.001, math.nan, math.inf, -math.inf])
def test_a_histogram_refuses_what_would_spoil_its_sum(value: float) -> None:
    """One nan in a cumulative sum would stay in it for good."""
    with pytest.raises(ValueError, match="finite"):
        cluster.mailbox_wait.record(value, entity_type="Spoiled")
    assert snapshot().value("cluster_mailbox_wait_seconds", entity_type="Spoiled") == 0.0


def test_a_histogram_and_a_gauge_cannot_be_added_to() -> None:
    """Gauges are read from the live table when collected, never kept by steps."""
    with pytest.raises(TypeError, match="is a gauge"):
        cluster.entities.add(1, entity_type="A")
    with pytest.raises(TypeError, match="is a histogram"):
        cluster.mailbox_wait.add(1, entity_type="A")


def test_wrong_label_names_are_refused_with_the_right_ones_named() -> None:
    """A missing and a foreign label both say which labels the metric has."""
    with pytest.raises(ValueError, match="has the labels: entity_type, operation; given: entity_type"):
        cluster.messages_sent.add(entity_type="A")
    with pytest.raises(ValueError, match="given: entity_type, method"):
        cluster.messages_sent.add(entity_type="A", method="m")
