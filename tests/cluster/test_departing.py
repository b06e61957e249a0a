"""How a runner ends: whom it waits for, and what becomes of what it cannot wait for. On the stepped clock."""

from __future__ import annotations

import asyncio

import pytest

from cluster_app import ClusterConfig, Entity, RunnerUnavailable, entity, message
from cluster_app.exchange import Answer
from cluster_app.memory_runner import MemoryRunner
from cluster_app.testing import MemoryCluster
from entities.catalog import Counter
from tests.cluster.overheard import overheard

# What has begun and ended, wherever it ran.
begun: list[str] = []
ended: list[str] = []


@entity(name="departing.Porter", max_idle_time=None)
class Porter(Entity):
    """Carries what takes its time."""

    @message
    async def carry(self, what: str, seconds: float) -> str:
        begun.append(what)
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(what)
        return what

    @message(idempotent=True)
    async def carry_safely(self, what: str, seconds: float) -> str:
        begun.append(what)
        await asyncio.sleep(0.1 if begun.count(what) > 1 else seconds)
        return what

    @message
    async def pass_on(self, other: Porter) -> str:
        return await other.carry.remote("passed on", 0.0)


@pytest.fixture(autouse=True)
def nothing_carried() -> None:
    """Each test begins anew."""
    begun.clear()
    ended.clear()


def runners(cluster: MemoryCluster) -> list[str]:
    """The runners there are."""
    return sorted(runner.id for runner in cluster.status().runners)


def porters_on(cluster: MemoryCluster, runner_id: str, number: int) -> list[Porter]:
    """So many that live on that runner."""
    host = cluster._memory._runners[runner_id].runner.host
    found: list[Porter] = []
    for n in range(200):
        porter = cluster.entity(Porter, f"porter-{n}")
        before = host.live.counts().get("departing.Porter", 0)
        porter.carry.remote("nothing", 0.0).result(30)
        if host.live.counts().get("departing.Porter", 0) > before:
            found.append(porter)
        if len(found) == number:
            begun.clear()
            ended.clear()
            return found
    raise AssertionError("two hundred porters, and too few there")


def goes_within(cluster: MemoryCluster, runner_id: str, seconds: float) -> float:
    """Until when it is gone, in seconds of the cluster's clock."""
    waited = 0.0
    while runner_id in runners(cluster):
        assert waited < seconds, f"{runner_id} is still there after {waited:g} s"
        cluster.clock.advance(0.5)
        waited += 0.5
    return waited


def cut_short(cluster: MemoryCluster, runner_id: str) -> None:
    """As for a node that is about to be taken away."""
    cluster._loop.call(cluster._memory.each(runner_id, MemoryRunner.cut_short))


def test_it_waits_for_no_sender_whose_process_has_ended(memory_cluster: MemoryCluster) -> None:
    """A runner that had sent there was killed: the drained one is gone at once, not after `lane_silence_s`."""
    first, second = runners(memory_cluster)
    (sender,) = porters_on(memory_cluster, first, 1)
    (receiver,) = porters_on(memory_cluster, second, 1)
    assert sender.pass_on.remote(receiver).result(30) == "passed on"
    lanes = memory_cluster._memory._runners[second].runner._lanes
    assert first in {name for name, _ in lanes}

    memory_cluster.kill(first)
    memory_cluster.clock.advance(1.0)
    assert first not in {name for name, _ in lanes}

    memory_cluster.drain(second)
    goes_within(memory_cluster, second, 2.0)


def ghost(cluster: MemoryCluster, runner_id: str, *, acknowledges: bool) -> None:
    """A sender that has sent one message there, and is never heard of again."""
    memory = cluster._memory._runners[runner_id]
    carry = memory.exchange
    requests = overheard(memory)
    for n in range(50):
        cluster.entity(Counter, f"new-{n}").increment.remote().result(30)
    memory.exchange = carry  # type: ignore[method-assign]  # as it was
    first = next(request for request in requests if request.parcel is not None and request.parcel.number == 0)
    answers: list[Answer | BaseException] = []
    carry(first._replace(sender="a ghost"), answers.append)
    cluster.clock.settle()
    assert isinstance(answers[0], Answer) and answers[0].received == 1
    if acknowledges:
        goodbye = first._replace(sender="a ghost", parcel=None, acknowledged=answers[0].published)
        carry(goodbye, answers.append)
        cluster.clock.settle()


@pytest.mark.parametrize(("acknowledges", "least", "most"), [(True, 5.0, 13.0), (False, 20.0, 33.0)])
def test_it_waits_longer_for_a_silent_sender_that_has_an_answer_to_come(
    acknowledges: bool, least: float, most: float
) -> None:
    """One that has all its answers loses nothing; it would have been heard of every five seconds, did it live."""
    with MemoryCluster(runners=2, config=ClusterConfig(lane_silence_s=30.0)) as cluster:
        first, _ = runners(cluster)
        ghost(cluster, first, acknowledges=acknowledges)
        cluster.drain(first)
        assert least <= goes_within(cluster, first, most)


def test_what_cannot_be_waited_for_is_cut_short_and_the_rest_goes_along(
    memory_cluster: MemoryCluster,
) -> None:
    """What ran may have run; idempotent, it is sent again; what waited behind it runs elsewhere, and counts agree."""
    first, _ = runners(memory_cluster)
    one, two, three = porters_on(memory_cluster, first, 3)
    before = memory_cluster.metrics().value("cluster_messages_received_total")
    long = one.carry.remote("long", 60.0)
    behind = one.carry.remote("behind", 0.0)
    safe = two.carry_safely.remote("safe", 60.0)
    short = three.carry.remote("short", 0.5)
    memory_cluster.clock.settle()

    cut_short(memory_cluster, first)
    memory_cluster.clock.advance(0.9)
    assert short.result(1) == "short"
    assert first in runners(memory_cluster) and not long.done()
    memory_cluster.clock.advance(2.0)

    assert first not in runners(memory_cluster)
    with pytest.raises(RunnerUnavailable) as caught:
        long.result(1)
    assert caught.value.may_have_run and caught.value.runner == first
    assert behind.result(1) == "behind"
    assert safe.result(1) == "safe"
    assert begun.count("long") == 1
    assert begun.count("safe") == 2
    metrics = memory_cluster.metrics()
    # There: long, safe and short; elsewhere: behind, and safe once more.
    assert metrics.value("cluster_messages_received_total") == before + 5
    assert metrics.value("cluster_redeliveries_total", reason="RunnerUnavailable") == 1
    assert metrics.value("cluster_redeliveries_total", reason="EntityNotAssignedToRunner") >= 1
    assert metrics.value("cluster_errors_total", type="RunnerUnavailable") == 1
    assert metrics.value("cluster_errors_total") == 1
    assert metrics.value("cluster_entity_deactivations_total", reason="lost") == 2
    assert metrics.value("cluster_message_latency_seconds") == metrics.value("cluster_messages_sent_total")
    assert metrics.value("cluster_shards") == 300


def test_what_waits_goes_along_also_where_more_shards_are_busy_than_may_move_at_once() -> None:
    """The coordinator asks for so many at a time, and those hold still; nobody has the time to wait for that."""
    with MemoryCluster(runners=2) as cluster:
        first, _ = runners(cluster)
        porters = [cluster.entity(Porter, f"porter-{n}") for n in range(600)]
        for porter in porters:
            porter.carry.options(timeout_s=300.0).remote("long", 100.0)
        behind = [porter.carry.options(timeout_s=300.0).remote("behind", 0.0) for porter in porters]
        cluster.clock.settle()
        assert {r.id: r.shards for r in cluster.status().runners}[first] > 120
        cut_short(cluster, first)
        cluster.clock.advance(150.0)
        assert [reply.result(1) for reply in behind] == ["behind"] * 600
        metrics = cluster.metrics()
        assert metrics.value("cluster_errors_total") == metrics.value(
            "cluster_errors_total", type="RunnerUnavailable"
        )
        assert metrics.value("cluster_entity_deactivations_total", reason="lost") == metrics.value(
            "cluster_errors_total"
        )


def given_up(cluster: MemoryCluster) -> tuple[str, list[int]]:
    """A runner that has given up a handler and has not ended: its id, and how many shards it had after each step."""
    first, _ = runners(cluster)
    (porter,) = porters_on(cluster, first, 1)
    porter.carry.remote("long", 60.0)
    cluster.clock.settle()
    held = []
    for step in (lambda memory: memory.runner.cut_short(), lambda memory: memory.runner.drop()):
        cluster._loop.call(cluster._memory.each(first, step))
        cluster.clock.advance(0.5)
        held.append({runner.id: runner.shards for runner in cluster.status().runners}[first])
    return first, held


def test_what_is_given_up_is_nobodys_until_its_process_has_ended(memory_cluster: MemoryCluster) -> None:
    """A thread that blocks may go on for a moment, so the shard is not let go before."""
    first, held = given_up(memory_cluster)
    assert held == [1, 1]
    memory_cluster.kill(first)
    assert memory_cluster.status().shards == 300


def test_what_was_given_up_ends_with_its_runner() -> None:
    """It is suspended, and cancelled: it must not wait for a lease that nobody renews, or it could never be let go."""
    with MemoryCluster(runners=2) as cluster:
        first, _ = given_up(cluster)
        crew = cluster._memory._runners[first].runner.host.crew
        assert crew._tasks
        cluster.kill(first)
        assert ended == ["long"] and not crew._tasks


def test_cut_short_with_nothing_to_wait_for_it_ends_in_order(memory_cluster: MemoryCluster) -> None:
    """Nothing is lost, and nobody is told of an error."""
    first, _ = runners(memory_cluster)
    porters_on(memory_cluster, first, 3)
    cut_short(memory_cluster, first)
    assert goes_within(memory_cluster, first, 2.0) <= 1.0
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_entity_deactivations_total", reason="lost") == 0
    assert metrics.value("cluster_shard_handoffs_total", outcome="error") == 0
    assert metrics.value("cluster_errors_total") == 0


def test_a_node_that_is_about_to_be_taken_away_is_kept_empty_beside_those_that_are_drained(
    memory_cluster: MemoryCluster,
) -> None:
    """Undoing the one leaves the other; with nobody else to take the shards, they stay where they are."""
    service = memory_cluster._memory._service[0]

    def draining() -> set[bool]:
        return {view.draining for view in service.coordinator.runners()}

    async def story() -> list[set[bool]]:
        seen = []
        service.expect_end_of(["node-1"])
        seen.append(draining())
        service.drain("node-1")
        service.drain("node-1", draining=False)
        seen.append(draining())
        assert not service.anybody_stays()
        service.drain("node-1")
        service.expect_end_of([])
        seen.append(draining())
        service.drain("node-1", draining=False)
        seen.append(draining())
        assert service.anybody_stays()
        return seen

    assert memory_cluster._loop.call(story()) == [{True}, {True}, {True}, {False}]
    memory_cluster.clock.advance(5.0)
    assert memory_cluster.status().shards == 300
