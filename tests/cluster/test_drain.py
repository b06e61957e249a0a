"""A runner is drained: its shards move, it ends, and no message fails or overtakes another. On the stepped clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_app import (
    DrainRefused,
    DrainTimeout,
    Entity,
    EntityResponse,
    HandlerError,
    entity,
    gather,
    message,
)
from cluster_app.shard import shard_number
from cluster_app.testing import MemoryCluster
from entities.declaration import define

# What has happened, wherever an entity of this process lives: (id, sender, number).
journal: list[tuple[str, str, int]] = []


@entity(name="drain.Desk", max_idle_time=None)
class Desk(Entity):
    """Notes what it handles, by sender."""

    @message
    def take(self, sender: str, number: int) -> int:
        journal.append((self.address.id, sender, number))
        return number

    @message
    async def take_slowly(self, sender: str, number: int) -> int:
        await asyncio.sleep(0.05)
        journal.append((self.address.id, sender, number))
        return number

    @message
    async def stay(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


@entity(name="drain.Clerk", max_idle_time=None)
class Clerk(Entity):
    """Sends to many desks while it runs, each time to all of them."""

    @message
    async def hand_out(self, desks: list[Desk], rounds: int) -> list[int]:
        replies: list[EntityResponse[int]] = []
        for number in range(rounds):
            for desk in desks:
                replies.append(desk.take_slowly.remote(self.address.id, number))
            await asyncio.sleep(0.01)
        return [await reply for reply in replies]


class Caller(Entity):
    """Works for a second, and then asks others, who ask it back."""

    @message
    async def ask(self, *path: str) -> str:
        return await self.work_and_ask(1.0, *path)

    @message
    async def work_and_ask(self, seconds: float, *path: str) -> str:
        await asyncio.sleep(seconds)
        return await self.pass_on(*path)

    @message
    async def pass_on(self, *path: str) -> str:
        if not path:
            return f"{self.address.id} was asked"
        name, entity_id = path[0].split(":")
        kind = {kind.__name__: kind for kind in (Patient, Impatient, Slow)}[name]
        return await self.entity(kind, entity_id).pass_on.remote(*path[1:])


@entity(name="drain.Patient", reentrant=True)
class Patient(Caller):
    """May be asked back."""


@entity(name="drain.Impatient")
class Impatient(Caller):
    """May not."""


@entity(name="drain.Slow")
class Slow(Caller):
    """Takes its time to come to life."""

    async def on_activate(self) -> None:
        await asyncio.sleep(0.5)


def in_the_shard_of(kind: type[Caller], other: type[Caller]) -> Iterator[str]:
    """The ids of other entities that are in the same shard as x of this type."""
    shard = shard_number(define(kind).name, "x", 300)
    ids = map(str, itertools.count())
    return (name for name in ids if shard_number(define(other).name, name, 300) == shard)


@pytest.fixture(autouse=True)
def fresh_journal() -> None:
    """Each test has a journal of its own."""
    journal.clear()


def desks_of(cluster: MemoryCluster, number: int = 20) -> list[Desk]:
    """Desks that live, on both runners."""
    desks = [cluster.entity(Desk, f"desk-{n}") for n in range(number)]
    for desk in desks:
        desk.take.remote("nobody", 0).result(30)
    journal.clear()
    return desks


def runner_ids(cluster: MemoryCluster) -> list[str]:
    """The runners there are."""
    return sorted(runner.id for runner in cluster.status().runners)


def check_order(desks: int, senders: int, rounds: int) -> None:
    """Every desk has handled each sender's messages, each once and in the order sent."""
    seen: dict[tuple[str, str], list[int]] = {}
    for desk, sender, number in journal:
        seen.setdefault((desk, sender), []).append(number)
    assert len(seen) == desks * senders
    assert set(map(tuple, seen.values())) == {tuple(range(rounds))}


def test_a_drained_runner_hands_over_and_ends(memory_cluster: MemoryCluster) -> None:
    """All its shards move to the other one; then it is gone, proven to have ended, and none of it was lost."""
    desks = desks_of(memory_cluster)
    first, second = runner_ids(memory_cluster)
    before = {runner.id: runner.shards for runner in memory_cluster.status().runners}
    lives = memory_cluster.metrics().value("cluster_entities")

    result = memory_cluster.drain(first)

    assert (result.target, result.runners, result.shards) == (first, (first,), before[first])
    assert result.seconds < 1.0
    assert {r.id: r.shards for r in memory_cluster.status().runners if r.id == second} == {second: 300}
    assert [desk.take.remote("nobody", 1).result(30) for desk in desks] == [1] * 20
    memory_cluster.clock.advance(0.5)
    assert runner_ids(memory_cluster) == [second]
    metrics = memory_cluster.metrics()
    moved = {"reason": "drain", "outcome": "ok"}
    assert metrics.value("cluster_shard_handoffs_total", **moved) == before[first]
    assert metrics.value("cluster_shard_handoffs_total") == before[first]
    assert metrics.histogram("cluster_shard_handoff_seconds", reason="drain").count == before[first]
    gone = metrics.value("cluster_entity_deactivations_total", reason="handoff")
    assert gone > 0
    assert metrics.value("cluster_entity_deactivations_total") == gone
    assert metrics.value("cluster_entities") == lives
    assert metrics.value("cluster_runners") == 1
    assert metrics.value("cluster_errors_total") == 0


def test_a_replacement_follows_and_takes_its_share(memory_cluster: MemoryCluster) -> None:
    """The runner that ended is replaced, so draining one after the other renews them all."""
    old = runner_ids(memory_cluster)
    for runner_id in old:
        memory_cluster.drain(runner_id)
        memory_cluster.clock.advance(5.0)
    status = memory_cluster.status()
    assert len(status.runners) == 2
    assert not {runner.id for runner in status.runners} & set(old)
    assert status.shards == 300
    assert min(runner.shards for runner in status.runners) > 50


def test_messages_that_wait_go_along_in_order(memory_cluster: MemoryCluster) -> None:
    """Long mailboxes on the drained runner: what runs is finished there, the rest is handled elsewhere, in order."""
    desks = desks_of(memory_cluster)
    replies = [desk.take_slowly.remote("driver", number) for number in range(30) for desk in desks]
    memory_cluster.clock.advance(0.2)
    memory_cluster.drain(runner_ids(memory_cluster)[0])
    replies += [desk.take_slowly.remote("driver", number) for number in range(30, 40) for desk in desks]
    memory_cluster.clock.advance(10.0)
    assert [reply.result(1) for reply in replies] == [n for n in range(40) for _ in desks]
    check_order(20, 1, 40)
    metrics = memory_cluster.metrics()
    desk = {"entity_type": "drain.Desk"}
    assert metrics.value("cluster_messages_received_total", **desk) == 20 + 800
    assert metrics.value("cluster_messages_sent_total", **desk) == 20 + 800
    resent = metrics.value("cluster_redeliveries_total", **desk)
    assert (
        resent == metrics.value("cluster_redeliveries_total", **desk, reason="EntityNotAssignedToRunner") > 0
    )
    assert metrics.value("cluster_errors_total") == 0


@pytest.mark.parametrize("which", [0, 1])
def test_entities_go_on_sending_while_their_own_runner_is_drained(
    memory_cluster: MemoryCluster, which: int
) -> None:
    """Messages between entities, on one runner or across: none fails, each is handled once, in the order sent."""
    desks = desks_of(memory_cluster)
    clerks = [memory_cluster.entity(Clerk, f"clerk-{n}") for n in range(10)]
    replies = [clerk.hand_out.remote(desks, 40) for clerk in clerks]
    memory_cluster.clock.advance(0.1)
    memory_cluster.drain(runner_ids(memory_cluster)[which])
    memory_cluster.clock.advance(60.0)
    for reply in replies:
        assert reply.result(1) == [n for n in range(40) for _ in desks]
    check_order(20, 10, 40)
    metrics = memory_cluster.metrics()
    desk = {"entity_type": "drain.Desk"}
    assert metrics.value("cluster_messages_received_total", **desk) == 20 + 8000
    assert metrics.value("cluster_message_latency_seconds", **desk, outcome="ok") == 20 + 8000
    assert metrics.value("cluster_errors_total") == 0


def test_the_only_runner_is_replaced_before_its_shards_move() -> None:
    """Nobody else could take them, so another one is started first; its entities are let go, not lost."""
    with MemoryCluster(runners=1) as cluster:
        desks = desks_of(cluster)
        (only,) = runner_ids(cluster)
        replies = [desk.take_slowly.remote("driver", number) for number in range(10) for desk in desks]
        result = cluster.drain(only)
        cluster.clock.advance(5.0)
        assert result.shards == 300
        assert [reply.result(1) for reply in replies] == [n for n in range(10) for _ in desks]
        check_order(20, 1, 10)
        (runner,) = cluster.status().runners
        assert runner.id != only
        assert runner.shards == 300
        assert cluster.metrics().value("cluster_shard_handoffs_total", reason="drain") == 300
        assert cluster.metrics().value("cluster_entity_deactivations_total", reason="lost") == 0


@pytest.mark.parametrize("beside", [Impatient, Slow])
def test_what_a_running_handler_causes_in_its_own_shard_is_done_before_that_moves(
    memory_cluster: MemoryCluster, beside: type[Caller]
) -> None:
    """The shard waits for the handler, and the handler for an entity that comes to life in it."""
    name = next(in_the_shard_of(Impatient, beside))
    running = memory_cluster.entity(Impatient, "x").ask.remote(f"{beside.__name__}:{name}")
    memory_cluster.clock.settle()
    home = memory_cluster._memory._service[0].owner("drain.Impatient", "x")
    assert home is not None
    drained = memory_cluster.drain(home)
    assert running.result(1) == f"{name} was asked"
    assert drained.seconds < 2
    check_gone(memory_cluster, started=2)


def test_what_others_were_refused_does_not_hold_up_what_a_running_handler_causes(
    memory_cluster: MemoryCluster,
) -> None:
    """All entities of a runner are one sender: what another of them has sent to that shard waits for it to move."""
    memory = memory_cluster._memory
    memory_cluster.register(Impatient)
    name, third = itertools.islice(in_the_shard_of(Impatient, Impatient), 1, 3)
    service, ids = memory._service[0], map(str, itertools.count())
    home = service.owner("drain.Impatient", "x")
    mate = next(n for n in ids if n not in ("x", name, third) and service.owner("drain.Impatient", n) == home)
    assert home is not None
    running = memory_cluster.entity(Impatient, "x").work_and_ask.remote(2.0, f"Impatient:{name}")
    beside = memory_cluster.entity(Impatient, mate).work_and_ask.remote(0.5, f"Impatient:{third}")
    memory_cluster.clock.settle()
    drained = memory_cluster.drain(home)
    assert drained.seconds < 4
    memory_cluster.clock.advance(4.0)
    assert (running.result(1), beside.result(1)) == (f"{name} was asked", f"{third} was asked")


def test_a_chain_that_comes_back_to_an_entity_of_a_shard_that_moves_is_let_in(
    memory_cluster: MemoryCluster,
) -> None:
    """From another runner, or by way of the same; where it may not come back it is told so as ever."""
    running: list[EntityResponse[str]] = []
    told: list[EntityResponse[str]] = []
    for n in range(12):
        running.append(memory_cluster.entity(Patient, f"p{n}").ask.remote(f"Impatient:{n}", f"Patient:p{n}"))
        told.append(memory_cluster.entity(Impatient, f"i{n}").ask.remote(f"Patient:{n}", f"Impatient:i{n}"))
    memory_cluster.clock.settle()
    home = runner_ids(memory_cluster)[0]
    drained = memory_cluster.drain(home)
    memory_cluster.clock.advance(3)
    assert [reply.result(1) for reply in running] == [f"p{n} was asked" for n in range(12)]
    for reply in told:
        error = reply.exception()
        assert isinstance(error, HandlerError) and "CallCycle: drain.Impatient/i" in str(error)
    assert drained.seconds < 4
    assert memory_cluster.metrics().value("cluster_errors_total", type="Timeout") == 0


def check_gone(cluster: MemoryCluster, started: int) -> None:
    """So many entities have come to life, and all of them have gone with their shard."""
    metrics = cluster.metrics()
    assert metrics.value("cluster_entity_activations_total") == started
    assert metrics.value("cluster_entity_deactivations_total", reason="handoff") == started


def test_what_still_runs_is_named_and_the_drain_goes_on(memory_cluster: MemoryCluster) -> None:
    """One busy entity holds its own shard only; the error says which handler it is."""
    desks = desks_of(memory_cluster)
    reply = desks[0].stay.options(timeout_s=100.0).remote(60.0)
    memory_cluster.clock.settle()
    busy = next(
        runner.id for runner in memory_cluster.status().runners if _lives_on(memory_cluster, runner.id)
    )

    with pytest.raises(DrainTimeout) as caught:
        memory_cluster.drain(busy, timeout_s=5.0)

    assert caught.value.held == {busy: 1}
    assert caught.value.running == ["drain.Desk/desk-0.stay"]
    assert "drain.Desk/desk-0.stay" in str(caught.value)
    # Everybody else answers meanwhile.
    assert gather(*[desk.take.remote("nobody", 1) for desk in desks[1:]]) == [1] * 19
    assert memory_cluster.drain(busy, timeout_s=60.0).shards == 1
    assert reply.result(30) == "done"
    memory_cluster.clock.advance(1.0)
    assert busy not in runner_ids(memory_cluster)


def _lives_on(cluster: MemoryCluster, runner_id: str) -> bool:
    return bool(cluster._memory._runners[runner_id].runner.running())


def test_the_coordinator_changes_in_the_middle_of_a_drain(memory_cluster: MemoryCluster) -> None:
    """The runner remembers that it drains, so the next term goes on with it."""
    desks = desks_of(memory_cluster)
    replies: list[EntityResponse[Any]] = [desk.stay.remote(3.0) for desk in desks]
    memory_cluster.clock.settle()
    first = runner_ids(memory_cluster)[0]
    with pytest.raises(DrainTimeout):
        memory_cluster.drain(first, timeout_s=1.0)
    memory_cluster.kill_coordinator()
    memory_cluster.clock.advance(20.0)
    assert [reply.result(1) for reply in replies] == ["done"] * 20
    assert first not in runner_ids(memory_cluster)
    assert memory_cluster.metrics().value("cluster_entity_deactivations_total", reason="lost") == 0


def test_a_target_that_cannot_be_drained_is_refused_by_name(memory_cluster: MemoryCluster) -> None:
    """The only node, an unknown id, one that is not clear, no time at all: each says what is wrong."""
    with pytest.raises(DrainRefused, match="no other node could take the shards of node node-1"):
        memory_cluster.drain(memory_cluster.status().runners[0].node_id)
    with pytest.raises(ValueError, match="no node or runner 'nowhere'; there are: "):
        memory_cluster.drain("nowhere")
    with pytest.raises(ValueError, match="'memory-' is the beginning of 2 ids"):
        memory_cluster.drain("memory-")
    with pytest.raises(ValueError, match=r"drain\(timeout_s=0\): seconds above 0"):
        memory_cluster.drain(runner_ids(memory_cluster)[0], timeout_s=0)
