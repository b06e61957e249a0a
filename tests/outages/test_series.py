"""At a real collector: series do not grow with entities, and a replay of real flights arrives to the unit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_app import Cluster, Entity, entity, gather, message
from tests.ray.seen import seen
from tests.telemetry.collector import Collector
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

HOSTED = 40
VISITORS = 100_000
AT_A_TIME = 5_000
FLIGHTS = 20_000


@entity(max_idle_time=1.0)
class Passenger(Entity):
    @message
    def board(self) -> None: ...


@entity(hosting="actor", max_idle_time=1.0)
class Pilot(Entity):
    @message
    def board(self) -> None: ...


def come_and_go(cluster: Cluster, kind: type[Passenger] | type[Pilot], ids: range, at_a_time: int) -> None:
    """Entities of these numbers come to life by a message each, and are gone when this returns."""
    for first in range(ids.start, ids.stop, at_a_time):
        some = range(first, min(first + at_a_time, ids.stop))
        gather(*[cluster.entity(kind, f"{n}").board.remote() for n in some], timeout_s=100)
    seen(cluster, lambda status: not status.entities.get(kind.__name__), within_s=60)


def let_go(receiver: Receiver, kind: type[Entity]) -> float:
    """How many of a type have been let go for idleness, as the collector knows it."""
    return receiver.total("cluster_entity_deactivations_total", entity_type=kind.__name__, reason="idle")


def test_series_do_not_grow_with_entities(tmp_path: Path) -> None:
    """One of each makes all the series there are; 40 with a process of their own and 100,000 without add none."""
    collector = Collector(tmp_path)
    try:
        with cluster_that_exports(collector.environment("grpc")) as cluster:
            come_and_go(cluster, Passenger, range(1), 1)
            come_and_go(cluster, Pilot, range(1), 1)
            receiver = collector.receiver
            assert receiver.wait_for(lambda: let_go(receiver, Passenger) == let_go(receiver, Pilot) == 1, 20)
            before = receiver.series()
            come_and_go(cluster, Pilot, range(1, 1 + HOSTED), 4)
            come_and_go(cluster, Passenger, range(1, 1 + VISITORS), AT_A_TIME)
            assert receiver.wait_for(lambda: let_go(receiver, Passenger) == 1 + VISITORS, 20)
            assert let_go(receiver, Pilot) == 1 + HOSTED
            assert receiver.series() == before
            cluster.shutdown()
    finally:
        collector.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_replay_of_flights_arrives_to_the_unit(tmp_path: Path, protocol: str) -> None:
    """The command starts a Ray and ends it: what it sent is at the collector then, though no interval has passed."""
    collector = Collector(tmp_path)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from cluster_app.cli import main; main()"),
                *("replay", "flights", "--limit", str(FLIGHTS), "--address", "local", "--json"),
            ],
            env={**os.environ, **collector.environment(protocol), "OTEL_METRIC_EXPORT_INTERVAL": "600000"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        collector.stop()
        receiver = collector.receiver
        assert receiver.requests == 1
        assert summary["messages"] > FLIGHTS
        assert receiver.total("cluster_messages_sent_total", operation="send") == summary["messages"]
        assert receiver.total("cluster_messages_received_total", operation="send") == summary["messages"]
        assert receiver.total("cluster_handler_duration_seconds", outcome="ok") == summary["messages"]
        for kind, count in summary["activations"].items():
            assert receiver.total("cluster_entity_activations_total", entity_type=kind) == count
        assert receiver.total("cluster_errors_total") == sum(summary["errors"].values())
    finally:
        collector.close()
