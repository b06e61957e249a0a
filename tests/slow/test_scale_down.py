"""A worker node without entities is left, as Ray's own report shows; it comes back on demand, and all counts stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.other_process import seen_by
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Where both nodes' metrics go."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def saw(receiver: Receiver) -> dict[str, Any]:
    """What a driver on two nodes saw."""
    exporting = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    return seen_by("tests.slow.two_nodes", within_s=170, RAY_metrics_report_interval_ms="1000", **exporting)


def test_a_node_in_use_is_busy_for_ray(saw: dict[str, Any]) -> None:
    """Our actors are there, so its autoscaler would keep it."""
    assert saw["used"]["idle_ms"] == 0
    assert saw["used"]["runners"] == 2
    assert saw["used"]["received"] == saw["used"]["activations"] == 40


def test_without_entities_ray_takes_it_for_idle(saw: dict[str, Any]) -> None:
    """Runner and agent have gone; by Ray's own report the node has been idle since."""
    assert saw["given up idle_ms"] >= 1500
    assert saw["runner left"] == [True]
    assert saw["given up"]["runners"] == 1


def test_nothing_that_was_counted_there_is_lost_or_counted_twice(saw: dict[str, Any]) -> None:
    """The node's account lives on at the head: 40 greeted, 40 seen off, all its shards handed over."""
    assert saw["given up"] == saw["given up again"]
    assert saw["given up"] == {
        "sent": 80,
        "received": 80,
        "activations": 40,
        "errors": 0,
        "lost": 0,
        "left": saw["shards there"],
        "runners": 1,
    }


def test_on_rays_own_pages_its_counts_are_shown_once(saw: dict[str, Any]) -> None:
    """Its series go with its agent, and the head's do not grow by them: a rate would see a burst that never was."""
    head, worker = saw["received, by Ray"]
    assert head + worker == 80 and worker > 0
    assert saw["given up, by Ray"] == [head, 0]


def test_a_crowd_brings_it_back(saw: dict[str, Any]) -> None:
    """More entities than `crowded_entities`: it has a runner again, is busy again, and counts go on exactly."""
    assert saw["taken back"] == 2
    assert saw["loaded"]["idle_ms"] == 0
    assert saw["loaded"]["sent"] == saw["loaded"]["received"] == 80 + 400
    assert saw["loaded"]["runners"] == 2
    assert (saw["loaded"]["errors"], saw["loaded"]["lost"]) == (0, 0)


def test_a_process_that_connects_there_brings_it_back(saw: dict[str, Any]) -> None:
    """A user's actor on the node that was given up has an agent to report to: what it sent is counted."""
    assert saw["visited there"]
    assert saw["staff for the visitor"]
    assert saw["visited"]["sent"] == saw["visited"]["received"] == 80 + 400 + 200 + 10
    assert (saw["visited"]["errors"], saw["visited"]["lost"]) == (0, 0)


def test_a_drained_node_is_empty_until_it_is_taken_back(saw: dict[str, Any]) -> None:
    """Its shards move with reason drain and its agent goes as well; the node that is left cannot be drained."""
    assert saw["drained"] == saw["by drain"] > 0
    assert "no other node could take the shards of node" in saw["refusal"]
    assert saw["undrained"]["sent"] == saw["undrained"]["received"] == 80 + 400 + 200 + 10 + 10 + 4
    assert (saw["undrained"]["errors"], saw["undrained"]["lost"]) == (0, 0)


def test_an_entity_with_a_process_of_its_own_has_it_where_its_shard_is(saw: dict[str, Any]) -> None:
    """There is room on either node, and so each process is on its runner's."""
    assert [process for _, process in saw["lodgings"]] == [runner for runner, _ in saw["lodgings"]]
    assert len({runner for runner, _ in saw["lodgings"]}) == 2 and len(saw["lodgings"]) == 4


def test_at_the_collector_the_sum_over_nodes_counts_an_account_that_moved_once(
    saw: dict[str, Any], receiver: Receiver
) -> None:
    """The node told it before it went; the head, which has it in its own sum now, does not tell it again."""
    assert len(receiver.resources) == 2
    accounts = {(point.node, point.start_ns) for point in receiver.points if point.kind != "gauge"}
    assert len(accounts) > 2, "the one node came back with a new one"
    for name, expected in (
        ("cluster_messages_sent_total", saw["undrained"]["sent"]),
        ("cluster_messages_received_total", saw["undrained"]["received"]),
    ):
        last: dict[Any, float] = {}
        for point in sorted(receiver.points, key=lambda point: point.at_ns):
            if point.name == name:
                # A node that comes back begins anew, with a start of its own.
                last[point.series, point.start_ns] = point.value
        assert sum(last.values()) == expected
