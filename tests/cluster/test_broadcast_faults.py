"""Broadcasts while runners die, pause and hand shards over, and with many entities. On the stepped clock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from cluster_app import (
    BroadcastResult,
    Cancelled,
    ClusterConfig,
    Entity,
    EntityResponse,
    MailboxFull,
    RunnerNotRegistered,
    TypeConflict,
    entity,
    message,
)
from cluster_app.testing import MemoryCluster

heard: list[tuple[str, Any]] = []


@entity(name="heard.Target", max_idle_time=None)
class Target(Entity):
    """Notes what it hears in a journal that outlives it."""

    @message
    def hear(self, what: Any) -> None:
        heard.append((self.address.id, what))

    @message
    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        heard.append((self.address.id, "held"))

    @message(idempotent=True)
    async def hold_safely(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        heard.append((self.address.id, "held safely"))

    @message
    async def leave(self, seconds: float) -> None:
        self.deactivate()
        await asyncio.sleep(seconds)


class Shy(Entity):
    """Does not come to life while its door is shut."""

    async def on_activate(self) -> None:
        await doors[-1].wait()
        if self.address.id == "1":
            raise RuntimeError("no")

    @message
    def hear(self, what: Any) -> None:
        heard.append((self.address.id, what))


doors: list[asyncio.Event] = []

SENT, LATENCY = "cluster_messages_sent_total", "cluster_message_latency_seconds"
BROADCAST = {"entity_type": "heard.Target", "operation": "broadcast"}


@pytest.fixture(autouse=True)
def fresh_journal() -> None:
    """Each test has a journal of its own."""
    heard.clear()


def living(cluster: MemoryCluster, number: int = 20) -> list[Target]:
    """Targets that live, on both runners."""
    targets = [cluster.entity(Target, str(n)) for n in range(number)]
    for reply in [target.hear.remote("hello") for target in targets]:
        reply.result(20)
    heard.clear()
    assert len(set(homes(cluster, targets).values())) == 2
    return targets


def homes(cluster: MemoryCluster, targets: list[Target]) -> dict[Target, str]:
    """The runner that serves each target now."""
    routes = cluster._memory._service[0].coordinator.routes()
    assert routes is not None
    return {target: routes.owners[target.hear.slot.shard][0] for target in targets}  # type: ignore[attr-defined]


def check_counts(cluster: MemoryCluster, results: list[BroadcastResult]) -> None:
    """What was counted is what the replies say, to the unit."""
    metrics = cluster.metrics()
    delivered = sum(result.delivered for result in results)
    errors: Counter[str] = Counter()
    for result in results:
        assert result.failed == sum(result.errors.values())
        errors.update(result.errors)
    assert metrics.value(SENT, **BROADCAST) == delivered + errors.total()
    assert metrics.value(LATENCY, **BROADCAST, outcome="ok") == delivered
    assert metrics.value(LATENCY, **BROADCAST, outcome="error") == errors.total()
    assert metrics.value("cluster_errors_total", **BROADCAST) == errors.total()
    for reason, count in errors.items():
        assert metrics.value("cluster_errors_total", **BROADCAST, type=reason) == count


def test_of_a_killed_runner_each_shard_counts_as_one_failure(memory_cluster: MemoryCluster) -> None:
    """Who lived there died with it and cannot be counted; shards that had answered already are complete."""
    targets = living(memory_cluster)
    home = homes(memory_cluster, targets)
    victim = home[targets[0]]
    reply = memory_cluster.broadcast(Target, "hold", 5.0)
    memory_cluster.clock.settle()
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(6.0)
    result = reply.result(20)
    lost = {target.hear.slot.shard for target in targets if home[target] == victim}  # type: ignore[attr-defined]
    kept = [target for target in targets if home[target] != victim]
    assert result == BroadcastResult(len(kept), len(lost), {"RunnerUnavailable": len(lost)})
    assert sorted(heard) == sorted((str(target).partition("/")[2], "held") for target in kept)
    check_counts(memory_cluster, [result])


def test_an_idempotent_one_is_sent_again_to_the_shards_of_a_killed_runner(
    memory_cluster: MemoryCluster,
) -> None:
    """It reaches who lives there by then: nobody, or who was started meanwhile by an earlier message."""
    targets = living(memory_cluster)
    home = homes(memory_cluster, targets)
    victim = home[targets[0]]
    reply = memory_cluster.broadcast(Target, "hold_safely", 5.0)
    memory_cluster.clock.settle()
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(12.0)
    kept = [target for target in targets if home[target] != victim]
    result = reply.result(20)
    assert result == BroadcastResult(len(kept), 0, {})
    again = len({target.hear.slot.shard for target in targets if home[target] == victim})  # type: ignore[attr-defined]
    assert memory_cluster.metrics().value("cluster_redeliveries_total", reason="RunnerUnavailable") == again
    check_counts(memory_cluster, [result])


def test_order_and_counts_hold_through_kills_and_handoffs(memory_cluster: MemoryCluster) -> None:
    """Whatever happens, nobody hears what came later before what came earlier, and nobody hears anything twice."""
    targets = living(memory_cluster, 40)
    chance = random.Random(7)
    replies: list[EntityResponse[None]] = []
    broadcasts: list[EntityResponse[BroadcastResult]] = []
    for number in range(0, 80, 2):
        replies += [target.hear.remote(number) for target in targets if chance.random() < 0.7]
        broadcasts.append(memory_cluster.broadcast(Target, "hear", number + 1))
        if number % 30 == 20:
            runners = sorted(runner.id for runner in memory_cluster.status().runners)
            memory_cluster.kill(chance.choice(runners))
        memory_cluster.clock.advance(0.05)
    memory_cluster.clock.advance(35.0)
    assert all(reply.done() for reply in replies)
    results = [reply.result(20) for reply in broadcasts]
    for target in targets:
        numbers = [what for who, what in heard if f"heard.Target/{who}" == str(target)]
        assert numbers == sorted(set(numbers))
    told = Counter(what for _, what in heard)
    # A reply can be lost with its runner after the handler has returned, so some may have heard more than was told.
    assert all(result.delivered <= told[2 * index + 1] for index, result in enumerate(results))
    assert sum(result.delivered for result in results) > 25 * len(broadcasts)
    assert memory_cluster.metrics().value("cluster_shard_handoffs_total", reason="join") > 0
    check_counts(memory_cluster, results)


def test_who_is_handed_over_before_its_turn_has_failed(memory_cluster: MemoryCluster) -> None:
    """It waits behind a handler while its shard moves: that one ends, and the broadcast says who did not get it."""
    targets = living(memory_cluster, 40)
    home = homes(memory_cluster, targets)
    busy = [target.hold.remote(2.0) for target in targets]
    memory_cluster.clock.settle()
    reply = memory_cluster.broadcast(Target, "hear", "all")
    memory_cluster.clock.settle()
    assert not reply.done()
    for memory in memory_cluster._memory._runners.values():
        leaving = {target.hear.slot.shard for target in targets if home[target] == memory.runner.runner_id}  # type: ignore[attr-defined]
        moved = set(sorted(leaving)[:3])
        memory_cluster._loop.call(_let_go(memory.runner, moved))
    memory_cluster.clock.advance(5.0)
    result = reply.result(20)
    assert result.delivered + result.failed == 40
    assert result.failed >= 6
    assert result.errors == {"EntityNotAssignedToRunner": result.failed}
    assert len([what for _, what in heard if what == "all"]) == result.delivered
    assert [one.exception() for one in busy] == [None] * 40
    check_counts(memory_cluster, [result])


async def _let_go(runner: Any, shards: set[Any]) -> None:
    runner._leaving.let_go(shards)


def test_a_paused_runner_that_loses_its_shards_says_nothing(memory_cluster: MemoryCluster) -> None:
    """Its handlers' ends are not seen: each of its shards ends as one failure, and is counted once."""
    targets = living(memory_cluster)
    home = homes(memory_cluster, targets)
    victim = home[targets[0]]
    reply = memory_cluster.broadcast.options(timeout_s=20.0)(Target, "hold", 2.0)
    memory_cluster.clock.settle()
    memory_cluster.pause(victim)
    memory_cluster.clock.advance(10.0)
    memory_cluster.resume(victim)
    memory_cluster.clock.advance(12.0)
    kept = [target for target in targets if home[target] != victim]
    result = reply.result(20)
    assert result.delivered == len(kept)
    assert result.failed > 0
    assert set(result.errors) <= {"RunnerUnavailable", "Timeout"}
    assert len(heard) == len(kept)
    check_counts(memory_cluster, [result])


def test_ten_thousand_hear_it_once_each(memory_cluster: MemoryCluster) -> None:
    """On both runners, in one go, while others of their kind come to life."""
    targets = living(memory_cluster, 10_000)
    late = [memory_cluster.entity(Target, f"late {n}") for n in range(50)]
    first = memory_cluster.broadcast(Target, "hear", 1)
    replies = [target.hear.remote("between") for target in late]
    second = memory_cluster.broadcast(Target, "hear", 2)
    assert first.result(50) == BroadcastResult(10_000, 0, {})
    assert second.result(50) == BroadcastResult(10_050, 0, {})
    assert all(reply.result(20) is None for reply in replies)
    assert len(heard) == len(set(heard)) == 10_000 + 50 + 10_050
    received = memory_cluster.metrics().value("cluster_messages_received_total", **BROADCAST)
    assert received == 20_050
    assert len(targets) == 10_000
    check_counts(memory_cluster, [first.result(), second.result()])


def test_who_is_leaving_is_no_target(memory_cluster: MemoryCluster) -> None:
    """A broadcast starts nobody; it is for the next one only where other messages wait for that one already."""
    targets = living(memory_cluster, 10)
    before = memory_cluster.metrics().value("cluster_entity_activations_total", entity_type="heard.Target")
    leaving = [target.leave.remote(1.0) for target in targets[:4]]
    waiting = targets[0].hear.remote("waits")
    memory_cluster.clock.settle()
    reply = memory_cluster.broadcast(Target, "hear", "all")
    memory_cluster.clock.advance(2.0)
    assert [one.exception() for one in (*leaving, waiting)] == [None] * 5
    assert reply.result(20) == BroadcastResult(7, 0, {})
    assert sorted(heard) == sorted([("0", "waits"), ("0", "all"), *[(str(n), "all") for n in range(4, 10)]])
    after = memory_cluster.metrics().value("cluster_entity_activations_total", entity_type="heard.Target")
    assert after - before == 1
    check_counts(memory_cluster, [reply.result()])


def test_it_does_not_overtake_what_its_runner_has_refused(memory_cluster: MemoryCluster) -> None:
    """A shard that a runner has refused once takes nothing from that sender until it restarts the stream."""
    targets = living(memory_cluster, 10)
    shard = targets[0].hear.slot.shard  # type: ignore[attr-defined]  # behind the type is a message
    owner = memory_cluster._memory._runners[homes(memory_cluster, targets)[targets[0]]].runner
    (lane,) = [lane for (sender, _), lane in owner._lanes.items() if sender.startswith("driver-")]
    lane.closed[shard] = 0
    reply = memory_cluster.broadcast(Target, "hear", "all")
    memory_cluster.clock.advance(1.0)
    assert reply.result(20) == BroadcastResult(10, 0, {})
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_redeliveries_total", reason="EntityNotAssignedToRunner") == 1
    assert metrics.value("cluster_messages_received_total", **BROADCAST) == 10
    check_counts(memory_cluster, [reply.result()])


def test_who_is_coming_to_life_hears_it_then(memory_cluster: MemoryCluster) -> None:
    """Or fails with its activation."""

    async def door() -> None:
        doors.append(asyncio.Event())

    async def open_door() -> None:
        doors[-1].set()

    memory_cluster._loop.call(door())
    coming = [memory_cluster.entity(Shy, str(n)).hear.remote("first") for n in range(3)]
    memory_cluster.clock.settle()
    reply = memory_cluster.broadcast(Shy, "hear", "all")
    memory_cluster.clock.settle()
    assert not reply.done()
    memory_cluster._loop.call(open_door())
    memory_cluster.clock.settle()
    assert reply.result(20) == BroadcastResult(2, 1, {"ActivationFailed": 1})
    assert [one.exception() is None for one in coming] == [True, False, True]
    assert sorted(heard) == [("0", "all"), ("0", "first"), ("2", "all"), ("2", "first")]


def test_without_room_in_the_lane_it_ends_as_a_whole() -> None:
    """A lane that is full already takes no part of it: one error, counted once."""
    with MemoryCluster(runners=1, config=ClusterConfig(max_in_flight=20)) as cluster:
        held = [cluster.entity(Target, str(n)).hold.remote(1.0) for n in range(20)]
        cluster.clock.settle()
        reply = cluster.broadcast(Target, "hear", 1)
        cluster.clock.settle()
        with pytest.raises(MailboxFull) as caught:
            reply.result(20)
        assert caught.value.scope == "lane"
        cluster.clock.advance(1.0)
        assert [one.exception() for one in held] == [None] * 20
        metrics = cluster.metrics()
        assert metrics.value("cluster_errors_total", **BROADCAST, type="MailboxFull") == 1
        assert metrics.value(SENT, **BROADCAST) == metrics.value(LATENCY, **BROADCAST) == 1


def test_of_a_refused_type_it_ends_as_a_whole(memory_cluster: MemoryCluster) -> None:
    """As any message to it does, with the refusal as the cause."""

    @entity(name="heard.Target")
    class Other(Entity):
        @message
        def hear(self, what: Any) -> None: ...

    memory_cluster.register(Target)
    with pytest.raises(RunnerNotRegistered) as caught:
        memory_cluster.broadcast(Other, "hear", 1).result(20)
    assert isinstance(caught.value.__cause__, TypeConflict)
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_errors_total", **BROADCAST, type="RunnerNotRegistered") == 1
    assert metrics.value(SENT, **BROADCAST) == metrics.value(LATENCY, **BROADCAST) == 1


def test_when_the_connection_closes_it_ends() -> None:
    """What was in flight may have run; a broadcast afterwards is refused at once."""
    with MemoryCluster(runners=2) as cluster:
        living(cluster)
        reply = cluster.broadcast(Target, "hold", 5.0)
        cluster.clock.settle()
        cluster.close()
        assert reply.done()
        assert set(reply.result().errors) == {Cancelled.reason}
        with pytest.raises(RuntimeError, match="closed"):
            cluster.broadcast(Target, "hear", 1)
