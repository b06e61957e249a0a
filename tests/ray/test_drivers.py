"""Who can be a driver, and what is left when one dies."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import ray

from cluster_app import (
    Cluster,
    ClusterConfig,
    Entity,
    HandlerError,
    as_completed,
    connect,
    entity,
    gather,
    message,
)
from tests.conftest import Counts
from tests.ray.driver_process import DriverProcess, environment
from tests.ray.seen import seen
from tests.ray.tallies import AbandonedTally, FloodedTally, Tally, ToldTally, UnaffectedTally

pytestmark = pytest.mark.ray

SILENCE_S = 20.0


@entity(max_idle_time=None)
class ActorTally(Tally):
    """Ray actors send to it."""


@entity(max_idle_time=None)
class TaskTally(Tally):
    """A Ray task sends to it."""


@entity(max_idle_time=None)
class HandlerTally(Tally):
    """An entity that connects sends to it."""


@entity(max_idle_time=None)
class Connecting(Entity):
    @message
    async def send(self, namespace: str, count: int) -> list[int]:
        with connect(namespace=namespace) as cluster:
            tally = cluster.entity(HandlerTally, "x")
            return [await tally.add.remote(1) for _ in range(count)]

    @message
    def block(self) -> int:
        return self.entity(HandlerTally, "x").add.remote(1).result(timeout_s=5)


@ray.remote(num_cpus=0)
class SyncOutsider:
    """Knows nothing of entities until it connects."""

    def send(self, namespace: str, count: int) -> list[int]:
        with connect(namespace=namespace) as cluster:
            tally = cluster.entity(ActorTally, "sync")
            return gather(*[tally.add.remote(1) for _ in range(count)], timeout_s=20)


@ray.remote(num_cpus=0)
class AsyncOutsider:
    """Awaits replies on its own loop."""

    async def send(self, namespace: str, count: int) -> list[int]:
        import asyncio

        async with connect(namespace=namespace) as cluster:
            tally = cluster.entity(ActorTally, "async")
            await cluster.ready(tally)
            return list(await asyncio.gather(*[tally.add.remote(1) for _ in range(count)]))


@ray.remote
def send_from_task(namespace: str, count: int) -> list[int]:
    """A task that is a driver for as long as it runs."""
    with connect(namespace=namespace) as cluster:
        tally = cluster.entity(TaskTally, "x")
        replies = [tally.add.remote(1) for _ in range(count)]
        return sorted(reply.result() for reply in as_completed(replies, timeout_s=20))


@pytest.fixture(scope="module")
def config() -> ClusterConfig:
    """A cluster that waits long for a silent sender: the end of one is seen long before."""
    return ClusterConfig(lane_silence_s=SILENCE_S)


@pytest.fixture
def listening() -> Iterator[ThreadPoolExecutor]:
    """A thread that waits for what a driver says."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_a_killed_driver_leaves_nothing_and_harms_nobody(
    file_cluster: Cluster, namespace: str, listening: ThreadPoolExecutor
) -> None:
    """Under load from two drivers one gets SIGKILL: the other loses nothing, and lane and messages of the dead go."""
    counts = Counts(file_cluster)
    abandoned = file_cluster.entity(AbandonedTally, "x")
    assert abandoned.add.remote(0).result(timeout_s=10) == 0
    with DriverProcess(namespace) as killed, DriverProcess(namespace) as other:
        killed.ask("hang", entity_type="AbandonedTally", entity_id="x", count=100)
        other.ask("send", entity_type="UnaffectedTally", entity_id="x", count=1000)
        (runner,) = file_cluster.status().runners
        assert runner.lanes == 3
        # One is being handled and the rest wait for it.
        assert file_cluster.metrics().value("cluster_mailbox_depth", entity_type="AbandonedTally") == 99

        killed.tell("flood", entity_type="FloodedTally", entity_id="x")
        assert killed.heard() == 1000
        more: Future[Any] = listening.submit(
            other.ask, "send", entity_type="UnaffectedTally", entity_id="x", count=20_000
        )
        assert killed.heard() == 2000
        killed.kill()
        assert more.result() == 21_000

        # Its node has seen it end, so nobody waits for it to have been silent for long enough.
        seen(file_cluster, lambda status: status.runners[0].lanes == 2, within_s=SILENCE_S / 2)
        assert file_cluster.metrics().value("cluster_mailbox_depth", entity_type="AbandonedTally") == 0
        assert other.ask("send", entity_type="UnaffectedTally", entity_id="x", count=1) == 21_001
        assert [runner.lanes for runner in file_cluster.status().runners] == [2]

    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="UnaffectedTally") == 21_001
    assert counts.of("cluster_messages_received_total", entity_type="UnaffectedTally") == 21_001
    assert counts.of("cluster_errors_total", entity_type="UnaffectedTally") == 0
    assert counts.of("cluster_redeliveries_total", entity_type="UnaffectedTally") == 0
    counts.check_invariants("UnaffectedTally")
    # Of the dead driver's own counts what it had reported, of those of its receiver all.
    handled = file_cluster.entity(FloodedTally, "x").add.remote(0).result(timeout_s=10)
    assert handled >= 2000
    assert counts.of("cluster_messages_received_total", entity_type="FloodedTally") == handled
    assert counts.of("cluster_messages_sent_total", entity_type="FloodedTally") <= handled + 1000
    assert counts.of("cluster_messages_received_total", entity_type="AbandonedTally") == 102
    assert file_cluster.entity(UnaffectedTally, "x").add.remote(0).result(timeout_s=10) == 21_001


def test_a_driver_that_gets_sigterm_leaves_nothing(file_cluster: Cluster, namespace: str) -> None:
    """Python ends it as Ray has it: its lane goes, with the messages that waited, and so does what it watched."""
    counts = Counts(file_cluster)
    tally = file_cluster.entity(ToldTally, "x")
    assert tally.add.remote(0).result(timeout_s=10) == 0
    before = file_cluster.status().runners[0].lanes
    with DriverProcess(namespace) as ended:
        ended.ask("hang", entity_type="ToldTally", entity_id="x", count=10)
        assert file_cluster.status().runners[0].lanes == before + 1
        assert ended.terminate() != 0
    seen(file_cluster, lambda status: status.runners[0].lanes == before, within_s=SILENCE_S / 2)
    assert file_cluster.metrics().value("cluster_mailbox_depth", entity_type="ToldTally") == 0
    counts.refresh()
    assert counts.of("cluster_messages_received_total", entity_type="ToldTally") == 12


def test_ray_actors_and_tasks_are_drivers(file_cluster: Cluster, namespace: str) -> None:
    """A sync actor, an async actor and a task connect, send, wait their own way and close: all is counted."""
    counts = Counts(file_cluster)
    expected = list(range(1, 101))
    sync_actors: Any = SyncOutsider
    async_actors: Any = AsyncOutsider
    calls: list[Any] = [
        sync_actors.remote().send.remote(namespace, 100),
        async_actors.remote().send.remote(namespace, 100),
        send_from_task.remote(namespace, 100),
    ]
    assert ray.get(calls, timeout=40) == [expected, expected, expected]
    counts.refresh()
    for kind, count in (("ActorTally", 200), ("TaskTally", 100)):
        assert counts.of("cluster_messages_sent_total", entity_type=kind) == count
        assert counts.of("cluster_messages_received_total", entity_type=kind) == count
        counts.check_invariants(kind)


def test_a_handler_can_connect(file_cluster: Cluster, namespace: str) -> None:
    """`connect` works inside an entity, and leaves the runner as it was; blocking for a reply is refused there."""
    counts = Counts(file_cluster)
    connecting = file_cluster.entity(Connecting, "x")
    assert connecting.send.remote(namespace, 10).result(timeout_s=20) == list(range(1, 11))
    assert connecting.send.remote(namespace, 10).result(timeout_s=20) == list(range(11, 21))
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="HandlerTally") == 20
    assert counts.of("cluster_messages_received_total", entity_type="HandlerTally") == 20
    assert counts.of("cluster_messages_sent_total", entity_type="Connecting") == 2
    counts.check_invariants("HandlerTally")
    blocked = connecting.block.remote()
    with pytest.raises(HandlerError) as refused:
        blocked.result(timeout_s=10)
    assert isinstance(refused.value.__cause__, RuntimeError)
    assert "await" in str(refused.value.__cause__)


def run(source: str, *arguments: str, environment: dict[str, str]) -> str:
    """What a script prints; fails unless it ends well."""
    script = [sys.executable, "-c", textwrap.dedent(source), *arguments]
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_that_forgets_to_close_still_reports(file_cluster: Cluster, namespace: str) -> None:
    """Its last counts arrive when its interpreter ends."""
    counts = Counts(file_cluster)
    source = """
        import sys, ray
        from cluster_app import connect
        from observe.metrics import track_cluster

        ray.init(log_to_driver=False)
        cluster = connect(namespace=sys.argv[1])
        for _ in range(7):
            with track_cluster(operation="send", entity_type="Forgetful"):
                pass
        print("forgets")
    """
    assert run(source, namespace, environment=environment()) == "forgets\n"
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="Forgetful") == 7


def test_connect_starts_a_ray_and_ends_it(ray_instance: None) -> None:
    """Where Ray is not initialised, `connect` starts one; it is gone when the connection ends."""
    source = """
        import socket, ray
        from cluster_app import connect
        from entities.catalog import Counter

        assert not ray.is_initialized()
        with connect("local") as cluster:
            assert ray.is_initialized()
            host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
            print(cluster.entity(Counter, "x").increment.remote(3).result(timeout_s=20))
        assert not ray.is_initialized()
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0
        print("ended")
    """
    own = {name: value for name, value in environment().items() if name != "RAY_ADDRESS"}
    assert run(source, environment=own) == "3\nended\n"
