"""Every metric that has a cause by now arrives at a real collector, by gRPC and by HTTP, exact to the unit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from cluster_app.status import ClusterStatus
from observe.instruments import cluster as instruments
from observe.metrics import MetricsSnapshot
from tests.tables import table
from tests.telemetry.collector import Collector
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.mix import HOSTED, Mix
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

WAITING: dict[str, str] = {}
"""Documented metrics that nothing can cause yet, each with what it waits for."""

WAITING_ERRORS = {
    "AlreadyProcessingMessage": "a transport that delivers a message twice",
    "PersistenceError": "storage",
}
"""Reasons that nothing produces yet, each with what it waits for."""

CAUGHT_UP_S = 20.0


class Told(NamedTuple):
    """What was told at both ends.

    :ivar snapshot: the cluster's own metrics at the end of the script.
    :ivar status: what the cluster said of itself then.
    :ivar caught_up: whether all of it had arrived before the cluster ended.
    """

    mix: Mix
    receiver: Receiver
    snapshot: MetricsSnapshot
    status: ClusterStatus
    caught_up: bool
    endpoint: str


@pytest.fixture(scope="module", params=["grpc", "http/protobuf"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The script, run once for each protocol, and what came out of the collector until the cluster had ended."""
    collector = Collector(tmp_path_factory.mktemp("collector"))
    environment = collector.environment(request.param)
    try:
        with cluster_that_exports(environment) as cluster:
            mix = Mix(cluster)
            mix.run()
            snapshot = cluster.metrics()
            caught_up = collector.receiver.wait_for(
                lambda: not missing(collector.receiver, snapshot), CAUGHT_UP_S
            )
            status = cluster.status()
            cluster.shutdown()
        collector.stop()
        yield Told(
            mix, collector.receiver, snapshot, status, caught_up, environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        )
    finally:
        collector.close()


def missing(receiver: Receiver, snapshot: MetricsSnapshot) -> list[str]:
    """The counts that have not arrived as the cluster has them."""
    gauges = {instrument.name for instrument in instruments if instrument.kind == "gauge"}
    arrived = {
        name: receiver.totals(name) for name in {point.name for point in snapshot if point.name not in gauges}
    }
    return [
        f"{point.name} {dict(point.labels)}: {point.value}"
        for point in snapshot
        if point.name not in gauges
        and arrived[point.name].get(tuple(sorted(point.labels.items()))) != point.value
    ]


def test_all_counts_arrive_as_the_cluster_has_them(told: Told) -> None:
    """Every series of every counter and histogram, while the cluster runs."""
    assert told.caught_up, missing(told.receiver, told.snapshot)


def test_messages_and_errors_are_what_the_driver_counted(told: Told) -> None:
    """To the unit, those of entity processes that lived two seconds included."""
    receiver = told.receiver
    sent = {
        (dict(labels)["entity_type"], dict(labels)["operation"]): count
        for labels, count in receiver.totals("cluster_messages_sent_total").items()
    }
    assert sent == told.mix.sent
    errors = {
        (dict(labels)["entity_type"], dict(labels)["type"], dict(labels)["operation"]): count
        for labels, count in receiver.totals("cluster_errors_total").items()
    }
    assert errors == told.mix.errors
    assert receiver.total("cluster_entity_activations_total", entity_type="Guest") == HOSTED
    assert receiver.total("cluster_entity_deactivations_total", entity_type="Guest", reason="idle") == HOSTED
    assert receiver.total("cluster_entity_lifetime_seconds", entity_type="Guest") == HOSTED
    assert receiver.total("cluster_slow_handlers_total", entity_type="Desk", method="dawdle") == 1
    assert receiver.total("cluster_redeliveries_total", entity_type="Desk", reason="RunnerUnavailable") == 1


def test_messages_and_latencies_agree_at_the_collector(told: Told) -> None:
    """Sent is the count of latencies, errors that of those with outcome error, for every type."""
    receiver = told.receiver
    for kind in {kind for kind, _ in told.mix.sent}:
        latencies = receiver.total("cluster_message_latency_seconds", entity_type=kind)
        assert receiver.total("cluster_messages_sent_total", entity_type=kind) == latencies
        failed = receiver.total("cluster_message_latency_seconds", entity_type=kind, outcome="error")
        assert receiver.total("cluster_errors_total", entity_type=kind) == failed


def test_every_error_that_has_a_producer_arrives(told: Told) -> None:
    """All of README's table, but for those that are listed as waiting."""
    arrived = {dict(labels)["type"] for labels in told.receiver.totals("cluster_errors_total")}
    assert arrived == {row["reason"] for row in table("Errors")} - WAITING_ERRORS.keys()


def test_the_last_words_of_the_service_arrive(told: Told) -> None:
    """Entities that live until the end are let go then, and that is in the last export; gauges end at nought."""
    ended = told.receiver.total("cluster_entity_deactivations_total", entity_type="Porter", reason="shutdown")
    assert ended == 1
    assert told.receiver.totals("cluster_entities", entity_type="Porter") == {
        (("entity_type", "Porter"),): 0.0
    }


def test_what_arrives_is_what_readme_says(told: Told) -> None:
    """The contract: no documented metric stays away, no undocumented one comes, each has the labels it should."""
    documented = {row["name"]: row for row in table("Metrics")}
    arrived = {arrived.name for arrived in told.receiver.points if arrived.scope == "cluster_app"}
    assert arrived - documented.keys() == set(), "these arrive and are not documented"
    assert documented.keys() - arrived == WAITING.keys(), "these are documented and do not arrive"
    kinds = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
    for point in told.receiver.points:
        if point.scope == "cluster_app":
            row = documented[point.name]
            labels = set() if row["labels"] == "none" else set(row["labels"].split(", "))
            assert {name for name, _ in point.labels} == labels
            assert point.kind == kinds[row["type"].split()[0]]


def test_the_users_own_instruments_arrive_under_their_own_scope(told: Told) -> None:
    """From runners that were killed, from processes that lived two seconds, and from the driver."""
    receiver = told.receiver
    worked = {dict(labels)["hosting"]: count for labels, count in receiver.totals("desk_work").items()}
    assert worked == told.mix.worked
    assert {point.scope for point in receiver.points if point.name == "desk_work"} == {"desk"}
    assert receiver.total("driver_runs") == 1
    others = {point.scope for point in receiver.points} - {"cluster_app"}
    assert others == {"desk", "driver"}


def test_all_of_it_is_one_nodes_and_starts_when_the_node_did(told: Told) -> None:
    """One resource; one start time of everything cumulative, through the whole run."""
    [(node, resource)] = told.receiver.resources.items()
    assert resource["service.name"] == "cluster-app"
    assert resource["ray.node.id"] == node == told.status.runners[0].node_id
    assert resource["ray.cluster.session"].startswith("session_")
    starts = {point.start_ns for point in told.receiver.points if point.kind != "gauge"}
    assert len(starts) == 1
    assert starts.pop() < time.time_ns()


def test_the_status_tells_where_it_goes_and_that_it_does(told: Told) -> None:
    """By node, also for whoever reads JSON."""
    state, traces = told.status.telemetry
    assert traces.exporter == f"{state.exporter} (traces)"
    for each in (state, traces):
        assert each.node_id == told.status.runners[0].node_id
        assert each.endpoint.startswith(told.endpoint)
        assert (each.failures, each.dropped, each.error) == (0, 0, "")
    assert state.exports > 0
    assert state.last_success_unix_s is not None
    assert (traces.exports, traces.last_success_unix_s) == (0, None)  # nothing began a trace
    assert told.status.as_dict()["telemetry"][0]["exporter"] == state.exporter
