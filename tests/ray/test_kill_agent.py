"""A node agent's process is killed: its successor goes on from the journal, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from cluster_app import Cluster, Entity, RunnerUnavailable, connect, entity, message
from tests.conftest import Counts
from tests.ray.seen import seen

pytestmark = pytest.mark.ray


@entity(max_idle_time=None)
class Bookkeeper(Entity):
    def __init__(self) -> None:
        self.entries = 0

    @message
    def enter(self) -> int:
        self.entries += 1
        return self.entries

    @message
    async def wait(self) -> None:
        await asyncio.Event().wait()


@entity(max_idle_time=None)
class TwiceKilledBookkeeper(Bookkeeper):
    pass


@entity(max_idle_time=None)
class LeftBookkeeper(Bookkeeper):
    pass


@entity(max_idle_time=None)
class LostBookkeeper(Bookkeeper):
    pass


def agent_pid(cluster: Cluster, namespace: str, *, other_than: int = 0) -> int:
    """The process of the node's agent, once that is another one."""
    status = seen(cluster, lambda status: len(status.runners) == 1, within_s=10)
    name = f"agent-{status.runners[0].node_id}"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            agent: Any = ray.get_actor(name, namespace=namespace)
            pid: Any = ray.get(agent.pid.remote(), timeout=20)
        except RayError:
            continue  # it restarts
        if pid != other_than:
            return int(pid)
    raise AssertionError("no other agent")


def test_counts_stay_exact_through_a_restart(file_cluster: Cluster, namespace: str) -> None:
    """Messages before, while and after the agent is away are each counted once, again after a second kill."""
    bookkeeper = file_cluster.entity(TwiceKilledBookkeeper, "x")
    counts = Counts(file_cluster)
    kind = "TwiceKilledBookkeeper"
    entered = 0
    for _ in range(2):
        pid = agent_pid(file_cluster, namespace)
        entered += 100
        assert [bookkeeper.enter.remote() for _ in range(100)][-1].result(timeout_s=10) == entered
        counts.refresh()
        assert counts.of("cluster_messages_sent_total", entity_type=kind) == entered

        os.kill(pid, signal.SIGKILL)
        entered += 50
        assert [bookkeeper.enter.remote() for _ in range(50)][-1].result(timeout_s=10) == entered
        for _ in range(20):  # the first reading waits for the next agent, and each is as fresh as the first
            entered += 5
            assert [bookkeeper.enter.remote() for _ in range(5)][-1].result(timeout_s=10) == entered
            counts.refresh()
            assert counts.of("cluster_messages_sent_total", entity_type=kind) == entered
            assert counts.of("cluster_messages_received_total", entity_type=kind) == entered
        agent_pid(file_cluster, namespace, other_than=pid)
        assert counts.of("cluster_handler_duration_seconds", entity_type=kind, method="enter") == entered
        assert counts.of("cluster_entity_activations_total", entity_type=kind) == 1
        assert counts.of("cluster_errors_total", entity_type=kind) == 0
        counts.check_invariants(kind)


def test_a_runner_that_dies_while_the_agent_is_away_is_found_out(
    file_cluster: Cluster, namespace: str
) -> None:
    """The next agent looks for the processes that ended meanwhile: counts stay, and none is waited for again."""
    bookkeeper = file_cluster.entity(LostBookkeeper, "x")
    counts = Counts(file_cluster)
    assert [bookkeeper.enter.remote() for _ in range(100)][-1].result(timeout_s=10) == 100
    pending = bookkeeper.wait.remote()
    file_cluster.entity(LostBookkeeper, "beside").enter.remote().result(timeout_s=10)  # it has arrived
    counts.refresh()
    assert counts.of("cluster_messages_received_total", entity_type="LostBookkeeper") == 102
    pid = agent_pid(file_cluster, namespace)
    (runner,) = file_cluster.status().runners

    os.kill(pid, signal.SIGKILL)
    os.kill(runner.pid, signal.SIGKILL)
    with pytest.raises(RunnerUnavailable):
        pending.result(timeout_s=0.5)
    agent_pid(file_cluster, namespace, other_than=pid)
    seen(file_cluster, lambda status: runner.id not in [r.id for r in status.runners], within_s=10)
    assert bookkeeper.enter.remote().result(timeout_s=20) == 1
    counts.refresh()
    since = time.monotonic()
    counts.refresh()
    assert time.monotonic() - since < 1.0  # a reading that waits for a dead process takes 2 s
    assert counts.of("cluster_messages_received_total", entity_type="LostBookkeeper") == 103
    assert counts.of("cluster_runners") == 0  # as many as before
    counts.check_invariants("LostBookkeeper")


def test_who_leaves_while_the_agent_is_away_has_counted_all_the_same(
    file_cluster: Cluster, namespace: str
) -> None:
    """Its last report waits for the next agent."""
    counts = Counts(file_cluster)
    with connect(namespace=namespace) as leaving:
        bookkeeper = leaving.entity(LeftBookkeeper, "x")
        assert bookkeeper.enter.remote().result(timeout_s=10) == 1
        os.kill(agent_pid(file_cluster, namespace), signal.SIGKILL)
        sent = [bookkeeper.enter.remote() for _ in range(50)]
        assert sent[-1].result(timeout_s=10) == 51
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="LeftBookkeeper") == 51
    counts.check_invariants("LeftBookkeeper")
