"""A singleton on Ray: every driver sees it, and it outlives its runner's process."""

from __future__ import annotations

import os
import signal

import pytest

import cluster_app
from cluster_app import Cluster, Entity, message
from tests.ray.seen import seen

pytestmark = pytest.mark.ray


class Lighthouse(Entity):
    """Shines by itself, and says where it is."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.flashes = 0
        self.every(0.05, "flash")

    @message
    def flash(self) -> None:
        self.flashes += 1


class Beacon(Lighthouse):
    """First asked for by an entity."""


class LighthouseKeeper(Entity):
    @message
    async def keep(self, namespace: str) -> str:
        return str(cluster_app.connect(namespace=namespace).singleton(Beacon))


def pid_of(cluster: Cluster, kind: type[Entity]) -> int | None:
    """The process in which the singleton has done something by itself; None while it has not."""
    found = dict(cluster.states(kind)).get("singleton")
    return found["pid"] if found is not None and found["flashes"] else None


def test_it_lives_again_when_its_runner_is_killed(file_cluster: Cluster, namespace: str) -> None:
    """In the process that takes over, without a message; asked for by another driver it is the same one."""
    lighthouse = file_cluster.singleton(Lighthouse)
    seen(file_cluster, lambda _: pid_of(file_cluster, Lighthouse) is not None, within_s=20)
    pid = pid_of(file_cluster, Lighthouse)
    assert pid == file_cluster.status().runners[0].pid
    with cluster_app.connect(namespace=namespace) as other:
        assert other.status().singletons == ["Lighthouse"]
        assert other.singleton(Lighthouse) == lighthouse
    os.kill(pid or 0, signal.SIGKILL)
    seen(file_cluster, lambda status: pid not in [runner.pid for runner in status.runners], within_s=20)
    seen(file_cluster, lambda _: pid_of(file_cluster, Lighthouse) is not None, within_s=20)
    assert pid_of(file_cluster, Lighthouse) == file_cluster.status().runners[0].pid
    assert file_cluster.metrics().value("cluster_singletons") == 1


def test_a_new_coordinator_remembers_it(file_cluster: Cluster) -> None:
    """It goes on in its process, and is still one that is kept."""
    file_cluster.singleton(Lighthouse)
    seen(file_cluster, lambda _: pid_of(file_cluster, Lighthouse) is not None, within_s=20)
    pid, before = pid_of(file_cluster, Lighthouse), file_cluster.status().coordinator
    os.kill(before.pid, signal.SIGKILL)
    after = seen(file_cluster, lambda status: status.coordinator.term > before.term, within_s=20)
    assert "Lighthouse" in after.singletons
    assert pid_of(file_cluster, Lighthouse) == pid


def test_an_entity_can_ask_for_it(file_cluster: Cluster, namespace: str) -> None:
    """The handler gets the reference at once; the singleton comes to life soon."""
    keeper = file_cluster.entity(LighthouseKeeper, "k")
    assert keeper.keep.remote(namespace).result(20) == "Beacon/singleton"
    seen(file_cluster, lambda _: pid_of(file_cluster, Beacon) is not None, within_s=20)
    assert "Beacon" in file_cluster.status().singletons
