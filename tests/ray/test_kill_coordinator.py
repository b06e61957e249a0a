"""The coordinator's process is killed: messages go on without it, and another term follows."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import ray

from cluster_app import Cluster, Entity, RunnerUnavailable, entity, message
from cluster_app.code import ship
from cluster_app.ray_calls import COORDINATOR, find_actor
from cluster_app.ray_kv import RayKeyValue
from cluster_app.routes import read_routes
from cluster_app.status import ClusterStatus
from entities.declaration import define
from tests.conftest import Counts
from tests.ray.seen import seen

pytestmark = pytest.mark.ray

TAKES_OVER_S = 2.0


@entity(max_idle_time=None)
class Signalman(Entity):
    def __init__(self) -> None:
        self.signals = 0

    @message
    def signal(self) -> int:
        self.signals += 1
        return self.signals

    @message
    async def wait(self) -> None:
        await asyncio.Event().wait()


@entity(max_idle_time=None)
class RelievedSignalman(Signalman):
    """First heard of while there is no coordinator."""


@entity(max_idle_time=None)
class LateSignalman(Signalman):
    """First heard of under the new term."""


@entity(name="ReplacedSignalman", max_idle_time=None)
class OldSignalman(Entity):
    @message
    def signal(self) -> str:
        return "old"


@entity(name="ReplacedSignalman", max_idle_time=None)
class NewSignalman(Entity):
    @message
    def signal(self) -> str:
        return "new"


@entity(max_idle_time=None)
class OrphanedSignalman(Signalman):
    """Its runner dies under the new term."""


@pytest.fixture
def asking() -> Iterator[ThreadPoolExecutor]:
    """A thread that waits for the cluster's answers."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def kill_coordinator(cluster: Cluster) -> ClusterStatus:
    """End it with SIGKILL; returns how things were before."""
    status = seen(cluster, lambda status: [r.healthy for r in status.runners] == [True], within_s=10)
    os.kill(status.coordinator.pid, signal.SIGKILL)
    return status


def follows(before: ClusterStatus, now: ClusterStatus) -> bool:
    """Whether a later term leads the runner that was there before."""
    return now.coordinator.term > before.coordinator.term and [r.shards for r in now.runners] == [300]


def test_messages_go_on_and_a_new_term_follows(file_cluster: Cluster, asking: ThreadPoolExecutor) -> None:
    """No message fails or starts over while the coordinator is away; the runner and its entities stay."""
    signalman = file_cluster.entity(Signalman, "x")
    assert signalman.signal.remote().result(timeout_s=10) == 1
    counts = Counts(file_cluster)

    before = kill_coordinator(file_cluster)
    told: Future[ClusterStatus] = asking.submit(
        seen, file_cluster, lambda status: follows(before, status), within_s=20
    )
    sent = 0
    longest_s = 0.0
    while not told.done():
        since = time.monotonic()
        sent += 1
        assert signalman.signal.remote().result(timeout_s=TAKES_OVER_S) == sent + 1
        longest_s = max(longest_s, time.monotonic() - since)

    after = told.result()
    assert longest_s < 1.0  # the lease never ran out
    assert after.coordinator.pid != before.coordinator.pid
    assert [runner.id for runner in after.runners] == [runner.id for runner in before.runners]
    assert after.entities["Signalman"] == 1
    assert signalman.signal.remote().result(timeout_s=10) == sent + 2
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="Signalman") == sent + 1
    assert counts.of("cluster_messages_received_total", entity_type="Signalman") == sent + 1
    assert counts.of("cluster_entity_activations_total", entity_type="Signalman") == 0
    assert counts.of("cluster_errors_total", entity_type="Signalman") == 0
    assert counts.of("cluster_redeliveries_total", entity_type="Signalman") == 0
    counts.check_invariants("Signalman")


def test_a_question_under_way_is_answered_by_the_next_coordinator(
    file_cluster: Cluster, namespace: str
) -> None:
    """Nobody has to notice first that it was lost, which takes Ray up to two seconds."""
    coordinator = find_actor(COORDINATOR, namespace)
    known = read_routes(ray.get(coordinator.routes.remote(-1), timeout=10)).version
    held = coordinator.routes.remote(known)
    before = kill_coordinator(file_cluster)
    now = read_routes(ray.get(held, timeout=20))
    after = seen(file_cluster, lambda status: follows(before, status), within_s=20)
    assert now.version > known
    assert after.coordinator.term == before.coordinator.term + 1


def test_a_new_type_waits_for_the_next_coordinator(file_cluster: Cluster) -> None:
    """The first message of a type the cluster does not know yet is held while nobody can register it."""
    counts = Counts(file_cluster)
    before = kill_coordinator(file_cluster)
    held = file_cluster.entity(RelievedSignalman, "x").signal.remote()
    assert held.result(timeout_s=20) == 1
    seen(file_cluster, lambda status: follows(before, status), within_s=20)
    late = file_cluster.entity(LateSignalman, "x")
    file_cluster.register(LateSignalman)
    assert late.signal.remote().result(timeout_s=10) == 1
    counts.refresh()
    for kind in ("RelievedSignalman", "LateSignalman"):
        assert counts.of("cluster_messages_sent_total", entity_type=kind) == 1
        assert counts.of("cluster_messages_received_total", entity_type=kind) == 1
        counts.check_invariants(kind)


def test_code_that_was_stored_and_told_to_nobody_replaces_all_the_same(
    file_cluster: Cluster, namespace: str
) -> None:
    """The call is made again, of a coordinator to which that code is known: the runners have not heard of it."""
    assert file_cluster.entity(OldSignalman, "x").signal.remote().result(timeout_s=10) == "old"
    # As far as the coordinator came before it was killed.
    shipped = pickle.dumps(ship(define(NewSignalman), {}, []))
    RayKeyValue().put(f"{namespace}/type/ReplacedSignalman", shipped)
    kill_coordinator(file_cluster)
    file_cluster.register(NewSignalman, replace=True)
    assert file_cluster.entity(NewSignalman, "y").signal.remote().result(timeout_s=10) == "new"


def test_a_runner_killed_under_the_new_term_is_replaced_as_soon(file_cluster: Cluster) -> None:
    """The new coordinator hears of a runner's death as the old one did: new messages succeed within 2 s."""
    signalman = file_cluster.entity(OrphanedSignalman, "x")
    assert signalman.signal.remote().result(timeout_s=10) == 1
    before = kill_coordinator(file_cluster)
    now = seen(file_cluster, lambda status: follows(before, status), within_s=20)

    pending = signalman.wait.remote()

    os.kill(now.runners[0].pid, signal.SIGKILL)
    killed_at = time.monotonic()
    with pytest.raises(RunnerUnavailable):
        pending.result(timeout_s=0.5)
    left_s = TAKES_OVER_S - (time.monotonic() - killed_at)
    assert signalman.signal.remote().result(timeout_s=left_s) == 1


def test_a_runner_killed_together_with_the_coordinator_is_replaced(file_cluster: Cluster) -> None:
    """The proof of a runner's death reaches the next coordinator too; what is sent meanwhile is held."""
    signalman = file_cluster.entity(OrphanedSignalman, "y")
    assert signalman.signal.remote().result(timeout_s=10) == 1
    pending = signalman.wait.remote()
    before = kill_coordinator(file_cluster)
    os.kill(before.runners[0].pid, signal.SIGKILL)
    with pytest.raises(RunnerUnavailable):
        pending.result(timeout_s=0.5)
    held = signalman.signal.remote()
    now = seen(
        file_cluster,
        lambda status: follows(before, status) and status.runners[0].id != before.runners[0].id,
        within_s=20,
    )
    assert held.result(timeout_s=10) == 1
    assert now.runners[0].healthy
