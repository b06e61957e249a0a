"""A runner on real Ray is drained while a driver sends: no message fails, and its process ends in order."""

from __future__ import annotations

import os
import select
import threading
from typing import Any

import pytest

from cluster_app import Cluster, ClusterConfig, DrainRefused, Entity, EntityResponse, entity, message
from tests.conftest import Counts
from tests.ray.seen import seen

pytestmark = pytest.mark.ray


@entity(max_idle_time=None)
class Gate(Entity):
    def __init__(self) -> None:
        self.passed: dict[str, list[int]] = {}

    @message
    def pass_through(self, sender: str, number: int) -> int:
        self.passed.setdefault(sender, []).append(number)
        return number

    @message
    async def pass_on(self, gates: list[Gate], rounds: int) -> bool:
        replies: list[EntityResponse[int]] = []
        for number in range(rounds):
            replies += [gate.pass_through.remote(self.address.id, number) for gate in gates]
            if number % 10 == 9:
                await replies[-1]
        return [await reply for reply in replies] == [n for n in range(rounds) for _ in gates]

    @message
    def process(self) -> int:
        return os.getpid()


@entity(max_idle_time=None)
class RolledGate(Gate):
    pass


@pytest.fixture(scope="module")
def config() -> ClusterConfig:
    """Two runners on the one node there is."""
    return ClusterConfig(runners_per_node=2)


def test_under_load_no_message_fails_and_order_holds(file_cluster: Cluster) -> None:
    """Drivers and entities go on sending; every shard moves to the other runner of the node with reason drain."""
    status = seen(
        file_cluster, lambda s: len(s.runners) == 2 and min(r.shards for r in s.runners) > 0, within_s=20
    )
    seen(file_cluster, lambda s: s.shards == 300, within_s=10)
    drained, other = status.runners
    gates = [file_cluster.entity(Gate, str(number)) for number in range(40)]
    for gate in gates:
        gate.process.remote().result(timeout_s=20)
    counts = Counts(file_cluster)
    over, under_way = threading.Event(), threading.Event()
    replies: list[tuple[int, EntityResponse[int]]] = []

    def drive() -> None:
        number = 0
        while not over.is_set():
            for gate in gates:
                replies.append((number, gate.pass_through.remote("driver", number)))
            number += 1
            if number % 10 == 0:
                replies[-1][1].result(timeout_s=20)
                under_way.set()

    driver = threading.Thread(target=drive)
    driver.start()
    relays: list[Any] = [
        file_cluster.entity(Gate, f"relay-{number}").pass_on.remote(gates, 100) for number in range(4)
    ]
    assert under_way.wait(20)
    before = {runner.id: runner.shards for runner in file_cluster.status().runners}
    ending = os.pidfd_open(drained.pid)
    try:
        result = file_cluster.drain(drained.id, timeout_s=30)
        after = {runner.id: runner.shards for runner in file_cluster.status().runners}
    finally:
        over.set()
        driver.join()

    assert result.shards == before[drained.id]
    assert after[other.id] == 300
    assert after.get(drained.id, 0) == 0
    assert [reply.result(timeout_s=20) for _, reply in replies] == [number for number, _ in replies]
    assert [relay.result(timeout_s=30) for relay in relays] == [True] * 4
    status = seen(file_cluster, lambda s: drained.id not in [r.id for r in s.runners], within_s=10)
    assert select.select([ending], [], [], 10)[0], "its process goes on"
    os.close(ending)
    counts.refresh()
    kind = {"entity_type": "Gate"}
    assert counts.of("cluster_shard_handoffs_total", reason="drain", outcome="ok") == before[drained.id]
    assert counts.of("cluster_shard_handoffs_total", reason="lost") == 0
    sent = len(replies) + 4 + 4 * 100 * 40
    assert counts.of("cluster_messages_sent_total", **kind) == sent
    assert counts.of("cluster_message_latency_seconds", **kind, outcome="ok") == sent
    assert counts.of("cluster_messages_received_total", **kind) == sent
    assert counts.of("cluster_errors_total", **kind) == 0
    assert counts.of("cluster_entity_deactivations_total", **kind, reason="lost") == 0
    seen_orders = {
        (gate, sender): numbers
        for gate, state in file_cluster.states(Gate)
        for sender, numbers in state["passed"].items()
    }
    assert all(numbers == sorted(set(numbers)) for numbers in seen_orders.values())


def test_the_node_that_is_all_there_is_cannot_be_drained(file_cluster: Cluster) -> None:
    """Nobody could take its shards: that is said, and nothing moves."""
    status = seen(file_cluster, lambda s: len(s.runners) == 2 and s.shards == 300, within_s=30)
    with pytest.raises(DrainRefused, match="no other node could take the shards of node"):
        file_cluster.drain(status.runners[0].node_id[:12])
    with pytest.raises(ValueError, match="no node or runner 'nowhere'"):
        file_cluster.drain("nowhere")
    with pytest.raises(ValueError, match="no drained node 'nowhere'; there are: none"):
        file_cluster.undrain("nowhere")
    assert all(runner.shards for runner in file_cluster.status().runners)


def test_the_only_runner_is_rolled(own_ray_cluster: Cluster) -> None:
    """With one runner a fresh process is started, takes all shards, and the old one ends."""
    gate = own_ray_cluster.entity(RolledGate, "x")
    old = gate.process.remote().result(timeout_s=20)
    (runner,) = own_ray_cluster.status().runners
    replies = [gate.pass_through.remote("driver", number) for number in range(1000)]
    result = own_ray_cluster.drain(runner.id, timeout_s=30)
    replies += [gate.pass_through.remote("driver", number) for number in range(1000, 2000)]
    assert result.shards == 300
    assert [reply.result(timeout_s=20) for reply in replies] == list(range(2000))
    assert gate.process.remote().result(timeout_s=20) not in (old, None)
    status = seen(own_ray_cluster, lambda s: runner.id not in [r.id for r in s.runners], within_s=10)
    assert [r.shards for r in status.runners] == [300]
    metrics = own_ray_cluster.metrics()
    assert metrics.value("cluster_shard_handoffs_total", reason="drain") == 300
    assert metrics.value("cluster_errors_total", entity_type="RolledGate") == 0
