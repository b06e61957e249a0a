"""Counts of several processes become one exact sum."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from cluster_app import Cluster, connect
from cluster_app.ray_reporter import Reporter
from observe.metrics import track_cluster
from observe.recorder import Recorder
from tests.conftest import Counts
from tests.exact_metrics import exact_metrics
from tests.ray.driver_process import DriverProcess
from tests.ray.tallies import ShortLivedTally, SummedTally

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def driver(file_cluster: Cluster, namespace: str) -> Iterator[DriverProcess]:
    """A second driver."""
    with DriverProcess(namespace) as driver:
        yield driver


def test_drivers_and_a_runner_sum_exactly(file_cluster: Cluster, driver: DriverProcess) -> None:
    """Two drivers and an entity send to one entity: sums are exact while all of them live."""
    counts = Counts(file_cluster)
    tally = file_cluster.entity(SummedTally, "x")
    relay = file_cluster.entity(SummedTally, "relay")
    driver.tell("send", entity_type="SummedTally", entity_id="x", count=1000)
    replies = [tally.add.remote(1) for _ in range(700)]
    assert relay.relay.remote("x", 30).result(timeout_s=20) <= 1730
    replies[-1].result(timeout_s=20)
    driver.heard()

    counts.refresh()
    of = {"entity_type": "SummedTally"}
    assert tally.add.remote(0).result(timeout_s=10) == 1730
    assert counts.of("cluster_messages_sent_total", **of, operation="send") == 1731
    assert counts.of("cluster_messages_received_total", **of, operation="send") == 1731
    assert counts.of("cluster_handler_duration_seconds", **of, method="add", outcome="ok") == 1730
    assert counts.of("cluster_mailbox_wait_seconds", **of) == 1731
    assert counts.of("cluster_entity_activations_total", **of) == 2
    assert counts.of("cluster_errors_total", **of) == 0
    assert counts.of("cluster_redeliveries_total", **of) == 0
    counts.check_invariants("SummedTally")


def test_the_last_counts_of_a_short_lived_driver_arrive(file_cluster: Cluster, namespace: str) -> None:
    """What a process counted just before it closed is in the next reading, and in every later one."""
    counts = Counts(file_cluster)
    for number in (1, 2):
        with DriverProcess(namespace) as short_lived:
            short_lived.ask("send", entity_type="ShortLivedTally", entity_id="x", count=70)
        counts.refresh()
        assert counts.of("cluster_messages_sent_total", entity_type="ShortLivedTally") == 70 * number
        counts.check_invariants("ShortLivedTally")
    tally = file_cluster.entity(ShortLivedTally, "x")
    assert tally.add.remote(0).result(timeout_s=10) == 140


def test_tracked_blocks_of_connected_processes_arrive(file_cluster: Cluster, driver: DriverProcess) -> None:
    """`track_cluster` counts in this process and in another driver, and both are in the cluster's sum."""
    counts = Counts(file_cluster)
    for _ in range(3):
        with track_cluster(operation="receive", entity_type="TrackedOverProcesses"):
            pass
    with pytest.raises(LookupError), track_cluster(operation="receive", entity_type="TrackedOverProcesses"):
        raise LookupError
    driver.ask("track", entity_type="TrackedOverProcesses", count=5)
    counts.refresh()
    of = {"entity_type": "TrackedOverProcesses", "operation": "receive"}
    assert counts.of("cluster_messages_received_total", **of) == 9
    assert counts.of("cluster_message_latency_seconds", **of, outcome="ok") == 8
    assert counts.of("cluster_message_latency_seconds", **of, outcome="error") == 1
    assert counts.of("cluster_errors_total", **of) == 1


def test_a_process_that_does_not_answer_is_named(
    file_cluster: Cluster, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While a driver stands still its last counts may be missing: the reading says so, and is exact again after it."""
    counts = Counts(file_cluster)
    of = {"entity_type": "TrackedBeforeStanding"}
    with DriverProcess(namespace) as driver:
        driver.ask("track", entity_type="TrackedBeforeStanding", count=5)
        exact_metrics(file_cluster)
        with driver.standing_still(), caplog.at_level(logging.WARNING, "cluster_app"):
            missing = file_cluster.metrics().missing
        assert missing
        assert [record for record in caplog.records if ", ".join(missing) in record.getMessage()]
        driver.ask("track", entity_type="TrackedBeforeStanding", count=2)
        counts.refresh()  # which waits until nobody's report is missing
        assert counts.of("cluster_messages_received_total", **of) == 7


def test_a_process_is_missed_from_before_its_first_report(file_cluster: Cluster, namespace: str) -> None:
    """Who has connected and not reported yet is named: counts without it are no exact ones."""
    reporter = Reporter(namespace, "sender-just-connected", Recorder(), lambda: None)
    reporter.announce()
    assert "sender-just-connected" in file_cluster.metrics().missing
    reporter.end()
    assert exact_metrics(file_cluster).missing == ()


def test_a_tracked_block_counts_once_however_many_connections_its_process_has(
    file_cluster: Cluster, namespace: str
) -> None:
    """A second connection of one process to the same cluster doubles nothing, nor takes its counts away."""
    counts = Counts(file_cluster)
    of = {"entity_type": "TrackedOnce"}
    with connect(namespace=namespace):
        with track_cluster(operation="send", entity_type="TrackedOnce"):
            pass
        counts.refresh()
        assert counts.of("cluster_messages_sent_total", **of) == 1
    with track_cluster(operation="send", entity_type="TrackedOnce"):
        pass
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", **of) == 2
