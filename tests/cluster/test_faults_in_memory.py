"""Runners killed and paused, coordinators killed: what becomes of messages, order and counts. On the stepped clock."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest

from cluster_app import ClusterError, Entity, EntityResponse, RunnerUnavailable, entity, message
from cluster_app.testing import MemoryCluster

# What has happened, wherever an entity of this process lives: the referee of single activation.
journal: list[tuple[str, str, Any]] = []


@entity(name="faults.Target", max_idle_time=None)
class Target(Entity):
    """Notes in the journal what it handles, and which life of its it is."""

    def __init__(self) -> None:
        self.life = uuid.uuid4().hex
        self.count = 0

    @message
    def hit(self, number: int) -> str:
        journal.append((self.address.id, self.life, number))
        self.count += 1
        return self.life

    @message(idempotent=True)
    def hit_safely(self, number: int) -> str:
        journal.append((self.address.id, self.life, number))
        return self.life

    @message
    async def hold(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        journal.append((self.address.id, self.life, "held"))
        return self.life

    @message(idempotent=True)
    async def hold_safely(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        journal.append((self.address.id, self.life, "held safely"))
        return self.life

    @message
    async def hold_then_tell(self, seconds: float, other: str) -> str:
        await asyncio.sleep(seconds)
        return await self.entity(Target, other).hit.remote(99)

    @message
    def ticket(self) -> tuple[int, int]:
        return self.epoch


TARGET = {"entity_type": "faults.Target"}


@pytest.fixture(autouse=True)
def fresh_journal() -> None:
    """Each test has a journal of its own."""
    journal.clear()


def homes(cluster: MemoryCluster, targets: list[Target]) -> dict[str, list[Target]]:
    """The targets by the runner that serves them now."""
    found: dict[str, list[Target]] = {}
    routes = cluster._memory._service[0].coordinator.routes()
    assert routes is not None
    for target in targets:
        owner, _ = routes.owners[target.hit.slot.shard]  # type: ignore[attr-defined]  # behind the type is a message
        found.setdefault(owner, []).append(target)
    return found


def targets_of(cluster: MemoryCluster, number: int = 20) -> list[Target]:
    """Targets that live, on both runners."""
    targets = [cluster.entity(Target, str(n)) for n in range(number)]
    for target in targets:
        target.hit.remote(-1).result(30)
    journal.clear()
    assert len(homes(cluster, targets)) == 2
    return targets


def errors_of(replies: list[EntityResponse[Any]]) -> list[BaseException | None]:
    """How replies that are there have ended."""
    assert all(reply.done() for reply in replies)
    return [reply.exception() for reply in replies]


def check_counts(cluster: MemoryCluster, replies: int, errors: Counter[str]) -> None:
    """The driver's counters are what the test has counted, and both invariants hold."""
    metrics = cluster.metrics()
    assert metrics.value("cluster_messages_sent_total", **TARGET) == replies
    assert metrics.value("cluster_message_latency_seconds", **TARGET) == replies
    assert metrics.value("cluster_errors_total", **TARGET) == errors.total()
    assert metrics.value("cluster_message_latency_seconds", **TARGET, outcome="error") == errors.total()
    for reason, count in errors.items():
        assert metrics.value("cluster_errors_total", **TARGET, type=reason) == count


def test_a_killed_runners_pending_replies_end(memory_cluster: MemoryCluster) -> None:
    """What may have run ends as RunnerUnavailable within half a second; the other runner's messages go on."""
    targets = targets_of(memory_cluster)
    by_home = homes(memory_cluster, targets)
    victim, survivor = sorted(by_home)
    lost: list[EntityResponse[Any]] = [target.hold.remote(5.0) for target in by_home[victim]]
    kept: list[EntityResponse[Any]] = [target.hold.remote(5.0) for target in by_home[survivor]]
    memory_cluster.clock.settle()
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(0.5)
    for error in errors_of(lost):
        assert isinstance(error, RunnerUnavailable)
        assert error.may_have_run is True
        assert error.runner == victim
    assert not any(reply.done() for reply in kept)
    memory_cluster.clock.advance(4.5)
    assert errors_of(kept) == [None] * len(kept)
    check_counts(memory_cluster, 20 + len(targets), Counter(RunnerUnavailable=len(lost)))


def test_new_messages_succeed_after_a_kill(memory_cluster: MemoryCluster) -> None:
    """Within two seconds every entity answers again: those of the killed runner as new instances."""
    targets = targets_of(memory_cluster)
    victim = sorted(homes(memory_cluster, targets))[0]
    memory_cluster.kill(victim)
    replies = [target.hit.remote(1) for target in targets]
    memory_cluster.clock.advance(2.0)
    assert errors_of(list(replies)) == [None] * 20
    status = memory_cluster.status()
    assert len(status.runners) == 2
    assert victim not in {runner.id for runner in status.runners}
    assert status.shards == 300


def test_an_idempotent_message_is_sent_again_and_counted(memory_cluster: MemoryCluster) -> None:
    """Each that was running on the killed runner is one redelivery; it runs to its end somewhere else."""
    targets = targets_of(memory_cluster)
    by_home = homes(memory_cluster, targets)
    victim = sorted(by_home)[0]
    replies: list[EntityResponse[Any]] = [target.hold_safely.remote(3.0) for target in targets]
    memory_cluster.clock.advance(1.0)
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(8.0)
    assert errors_of(replies) == [None] * 20
    metrics = memory_cluster.metrics()
    resent = len(by_home[victim])
    assert metrics.value("cluster_redeliveries_total", **TARGET, reason="RunnerUnavailable") == resent
    assert len([entry for entry in journal if entry[2] == "held safely"]) == 20
    check_counts(memory_cluster, 40, Counter())


def test_order_holds_through_a_kill(memory_cluster: MemoryCluster) -> None:
    """A stream of idempotent messages goes on while its runners are killed: none is lost, none overtakes."""
    targets = targets_of(memory_cluster)
    replies: list[EntityResponse[Any]] = []
    for number in range(200):
        for target in targets:
            replies.append(target.hit_safely.remote(number))
        if number in (50, 100, 150):
            victim = sorted(runner.id for runner in memory_cluster.status().runners)[number // 50 % 2]
            memory_cluster.kill(victim)
        memory_cluster.clock.advance(0.01)
    memory_cluster.clock.advance(5.0)
    assert errors_of(replies) == [None] * len(replies)
    for index in range(20):
        handled = [number for who, _, number in journal if who == str(index)]
        first_times = [number for n, number in enumerate(handled) if number not in handled[:n]]
        assert first_times == list(range(200))
        # A resent message may run twice; what it brings again comes again in order.
        lives = [life for who, life, _ in journal if who == str(index)]
        for life in set(lives):
            numbers = [number for who, its, number in journal if who == str(index) and its == life]
            assert numbers == sorted(numbers)
    check_counts(memory_cluster, 20 + 4000, Counter())


def test_an_entity_never_has_two_lives_at_once(memory_cluster: MemoryCluster) -> None:
    """Through kills, pauses and new coordinators: once a new life has acted, the old one never acts again."""
    targets = targets_of(memory_cluster)
    replies: list[EntityResponse[Any]] = []
    for number in range(120):
        for target in targets:
            replies.append(target.hit_safely.remote(number))
        runners = sorted(runner.id for runner in memory_cluster.status().runners)
        if number % 40 == 10:
            memory_cluster.kill(runners[0])
        if number % 40 == 20:
            memory_cluster.kill_coordinator()
        memory_cluster.clock.advance(0.1)
    memory_cluster.clock.advance(10.0)
    assert errors_of(replies) == [None] * len(replies)
    for index in range(20):
        lives = [life for who, life, _ in journal if who == str(index)]
        changes = [life for n, life in enumerate(lives) if n == 0 or lives[n - 1] != life]
        assert len(changes) == len(set(changes))
    check_counts(memory_cluster, 20 + 2400, Counter())


def test_messages_go_on_without_a_coordinator_change_noticed(memory_cluster: MemoryCluster) -> None:
    """A killed coordinator costs no message; the next one leads a later term, and nobody is activated anew."""
    targets = targets_of(memory_cluster)
    lives = [target.hit.remote(0).result(30) for target in targets]
    term = memory_cluster.status().coordinator.term
    memory_cluster.kill_coordinator()
    assert [target.hit.remote(1).result(30) for target in targets] == lives
    memory_cluster.clock.advance(10.0)
    assert memory_cluster.status().coordinator.term > term
    assert [target.hit.remote(2).result(30) for target in targets] == lives
    check_counts(memory_cluster, 80, Counter())


def test_a_paused_runner_that_comes_back_in_time_goes_on(memory_cluster: MemoryCluster) -> None:
    """A stop shorter than the lease: messages wait, then the same instances answer them."""
    targets = targets_of(memory_cluster)
    by_home = homes(memory_cluster, targets)
    victim = sorted(by_home)[0]
    lives = {target: target.hit.remote(0).result(30) for target in by_home[victim]}
    memory_cluster.pause(victim)
    replies = {target: target.hit.remote(1) for target in by_home[victim]}
    memory_cluster.clock.advance(1.0)
    assert not any(reply.done() for reply in replies.values())
    memory_cluster.resume(victim)
    memory_cluster.clock.advance(1.0)
    assert {target: reply.result(30) for target, reply in replies.items()} == lives


def test_a_paused_runner_publishes_nothing_after_its_lease(memory_cluster: MemoryCluster) -> None:
    """Its handlers were under way; others have its shards when it wakes: no reply and no message of its leaves."""
    targets = targets_of(memory_cluster)
    by_home = homes(memory_cluster, targets)
    victim, survivor = sorted(by_home)
    other = by_home[survivor][0]
    other_id = str(other)
    held: list[EntityResponse[Any]] = [target.hold.remote(2.0) for target in by_home[victim]]
    telling: list[EntityResponse[Any]] = [
        target.hold_then_tell.remote(2.0, other_id.partition("/")[2]) for target in by_home[victim]
    ]
    memory_cluster.clock.settle()
    epochs = {target: target.ticket for target in by_home[victim]}
    memory_cluster.pause(victim)
    memory_cluster.clock.advance(10.0)
    memory_cluster.resume(victim)
    memory_cluster.clock.advance(25.0)
    # No handler's end is seen: neither "held" nor the nested message; every reply ends as an error.
    assert [entry for entry in journal if entry[2] in ("held", 99)] == []
    for error in errors_of([*held, *telling]):
        assert isinstance(error, ClusterError)
    assert len(epochs) == len(by_home[victim])
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_handler_duration_seconds", **TARGET, method="hold", outcome="ok") == 0


def test_epochs_only_grow(memory_cluster: MemoryCluster) -> None:
    """A new owner's epoch is above the old one's: the token that outside storage can fence with."""
    targets = targets_of(memory_cluster)
    before = [target.ticket.remote().result(30) for target in targets]
    victim = sorted(homes(memory_cluster, targets))[0]
    lost = {str(target) for target in homes(memory_cluster, targets)[victim]}
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(2.0)
    after = [target.ticket.remote().result(30) for target in targets]
    for target, old, new in zip(targets, before, after, strict=True):
        if str(target) in lost:
            assert new > old
        else:
            assert new >= old
