"""Runners killed and paused, coordinators killed: what becomes of messages, order and counts. On the stepped clock."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any, TypeVar

import pytest

from cluster_app import (
    ActivationFailed,
    ClusterConfig,
    ClusterError,
    Entity,
    EntityResponse,
    RunnerUnavailable,
    entity,
    message,
)
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


@entity(name="faults.SlowToGo", max_idle_time=1.0)
class SlowToGo(Entity):
    """Notes when it came and when it began to go, which takes it a while."""

    def __init__(self) -> None:
        journal.append((self.address.id, "came", self.epoch))

    @message
    def which(self) -> tuple[int, int]:
        return self.epoch

    async def on_deactivate(self, reason: str) -> None:
        journal.append((self.address.id, "goes", self.epoch))
        await asyncio.sleep(9.0)


@entity(name="faults.Asker", max_idle_time=None)
class Asker(Entity):
    @message
    async def ask(self, other: str) -> tuple[int, int]:
        return await self.entity(SlowToGo, other).which.remote()


T = TypeVar("T", Target, "Guest")
TARGET = {"entity_type": "faults.Target"}


@pytest.fixture(autouse=True)
def fresh_journal() -> None:
    """Each test has a journal of its own."""
    journal.clear()


def homes(cluster: MemoryCluster, targets: list[T]) -> dict[str, list[T]]:
    """The targets by the runner that serves them now."""
    found: dict[str, list[T]] = {}
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


@entity(name="faults.Frail", max_idle_time=None)
class Frail(Entity):
    """Comes to life as long as it may."""

    may_live = True

    def __init__(self) -> None:
        if not Frail.may_live:
            raise RuntimeError("not again")

    @message(idempotent=True)
    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def test_what_has_run_under_a_killed_runner_may_have_run_whatever_comes_then(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idempotent message is sent again and fails before it begins there: that it has not run would be untrue."""
    frail = memory_cluster.entity(Frail, "x")
    began: EntityResponse[None] = frail.hold.remote(5.0)
    memory_cluster.clock.settle()
    monkeypatch.setattr(Frail, "may_live", False)
    for runner in memory_cluster.status().runners:
        memory_cluster.kill(runner.id)
    never: EntityResponse[None] = frail.hold.remote(5.0)
    memory_cluster.clock.advance(1.0)
    errors = errors_of([began, never])
    assert [type(error) for error in errors] == [ActivationFailed, ActivationFailed]
    assert [error.may_have_run for error in errors if isinstance(error, ClusterError)] == [True, False]


@entity(name="faults.Guest", max_idle_time=1.0)
class Guest(Entity):
    """Notes in the journal when it comes and goes."""

    def __init__(self) -> None:
        journal.append((self.address.id, "came", self.epoch))

    async def on_deactivate(self, reason: str) -> None:
        journal.append((self.address.id, "went", reason))

    @message(idempotent=True)
    def hit(self) -> tuple[int, int]:
        return self.epoch


def test_nothing_comes_to_life_on_a_runner_that_wakes_up_after_its_lease(
    memory_cluster: MemoryCluster,
) -> None:
    """It stood still while messages came and its shards went elsewhere: it looks for its lease before it takes them."""
    guests = [memory_cluster.entity(Guest, str(n)) for n in range(20)]
    memory_cluster.register(Guest)
    sleeper = sorted(homes(memory_cluster, guests))[0]
    memory_cluster.pause(sleeper)
    replies: list[EntityResponse[tuple[int, int]]] = [guest.hit.remote() for guest in guests]
    memory_cluster.clock.advance(2 * ClusterConfig().lease_s)
    memory_cluster.resume(sleeper)
    memory_cluster.clock.advance(1.0)
    epochs = {str(n): reply.result() for n, reply in enumerate(replies)}
    assert {name: epoch for name, what, epoch in journal if what == "came"} == epochs
    assert len([what for _, what, _ in journal if what == "came"]) == len(guests)


def test_a_runner_whose_lease_has_ended_lets_nobody_go(memory_cluster: MemoryCluster) -> None:
    """An entity's last words could be written over its next life's: while suspended it stays, and lost it says none."""
    guests = [memory_cluster.entity(Guest, str(n)) for n in range(20)]
    for guest in guests:
        guest.hit.remote().result(10)
    sleeper = sorted(homes(memory_cluster, guests))[0]
    asleep = {str(guests.index(guest)) for guest in homes(memory_cluster, guests)[sleeper]}
    memory_cluster.pause(sleeper)
    memory_cluster.clock.advance(2 * ClusterConfig().lease_s)
    memory_cluster.resume(sleeper)
    memory_cluster.clock.advance(5.0)
    went = {name for name, what, _ in journal if what == "went"}
    assert went == {str(n) for n in range(20)} - asleep


def test_what_waits_for_an_entity_that_goes_brings_none_to_life_after_the_lease(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its time to go, and its runner is cut off meanwhile: only the next owner has a successor."""
    memory = memory_cluster._memory
    slow = memory_cluster.entity(SlowToGo, "x")
    first = slow.which.remote().result(10)
    owner = memory._service[0].owner("faults.SlowToGo", "x")
    assert owner is not None
    memory_cluster.register(Asker)
    ids = (str(n) for n in range(100))
    beside = next(name for name in ids if memory._service[0].owner("faults.Asker", name) == owner)
    asker = memory_cluster.entity(Asker, beside)
    asker.ask.remote("y").result(10)
    memory_cluster.clock.advance(1.5)
    assert ("x", "goes", first) in journal
    asker.ask.remote("x")  # by the local lane: into the mailbox of the one that goes
    memory_cluster.clock.settle()

    async def never(patience_s: float | None = None) -> None:
        await asyncio.sleep(1000)

    monkeypatch.setattr(memory._runners[owner], "_renew_once", never)
    memory_cluster.clock.advance(2 * ClusterConfig().lease_s)
    second = slow.which.remote().result(10)
    assert second > first
    memory_cluster.clock.advance(10)
    assert [(what, epoch) for name, what, epoch in journal if name == "x" and what == "came"] == [
        ("came", first),
        ("came", second),
    ]


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
    held: list[EntityResponse[Any]] = [target.hold.remote(2.0) for target in by_home[victim][1:]]
    telling: list[EntityResponse[Any]] = [
        by_home[victim][0].hold_then_tell.remote(2.0, other_id.partition("/")[2])
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


def test_a_runner_that_wakes_without_its_shards_serves_again_what_it_is_then_given(
    memory_cluster: MemoryCluster,
) -> None:
    """The handlers that it gives up wait for its lease; only they are cancelled. What was sent by then is given up."""
    targets = targets_of(memory_cluster)
    victim = sorted(homes(memory_cluster, targets))[0]
    mine = homes(memory_cluster, targets)[victim]
    held: list[EntityResponse[Any]] = [target.hold.remote(1.0) for target in mine]
    behind: list[EntityResponse[Any]] = [target.hit.remote(1) for target in mine]
    memory_cluster.clock.settle()
    memory_cluster.pause(victim)
    memory_cluster.clock.advance(10.0)
    memory_cluster.resume(victim)
    memory_cluster.clock.advance(10.0)
    assert all(isinstance(error, RunnerUnavailable) for error in errors_of(held))
    assert all(isinstance(error, RunnerUnavailable) for error in errors_of(behind))
    assert homes(memory_cluster, targets)[victim] == mine
    assert {target.hit.remote(2).done() for target in mine} == {False}
    again: list[EntityResponse[Any]] = [target.hit.remote(3) for target in mine]
    memory_cluster.clock.advance(1.0)
    assert errors_of(again) == [None] * len(mine)


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
