"""A runner that stands still for longer than its lease: what becomes of what was sent there. On the stepped clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster_app import Entity, EntityResponse, RunnerUnavailable, entity, message
from cluster_app.testing import MemoryCluster

LEASE_S = 3.0
# Until the coordinator has taken everything: it may have renewed the lease a quarter of one after the runner stopped,
# waits for drift, and looks every ninth.
TAKEN_S = LEASE_S * (1 + 1 / 4 + 1 / 9) + 0.1
SILENT_S = 0.5  # after which a sender asks what has become of its runner

# The number of each message whose handler began, wherever its entity lives.
began: list[int] = []


@entity(name="silent.Desk", max_idle_time=None)
class Desk(Entity):
    """Notes what it is asked, and where."""

    @message
    def once(self, number: int) -> int:
        began.append(number)
        return number

    @message(idempotent=True)
    def again(self, number: int) -> int:
        began.append(number)
        return number

    @message
    async def slowly(self, number: int, seconds: float) -> int:
        began.append(number)
        await asyncio.sleep(seconds)
        return number


@pytest.fixture(autouse=True)
def nothing_began() -> None:
    """Each test has a list of its own."""
    began.clear()


def owner_of(cluster: MemoryCluster, desk: Desk) -> str:
    """The runner that is granted the shard of a desk now."""
    owner = cluster._memory._service[0].owner("silent.Desk", str(desk).partition("/")[2])
    assert owner is not None
    return owner


def a_desk_and_its_runner(cluster: MemoryCluster) -> tuple[Desk, str]:
    """A desk that lives."""
    desk = cluster.entity(Desk, "a")
    assert desk.once.remote(-1).result(30) == -1
    began.clear()
    return desk, owner_of(cluster, desk)


def error_of(reply: EntityResponse[Any]) -> RunnerUnavailable:
    """How a reply that is there has failed."""
    assert reply.done()
    error = reply.exception()
    assert isinstance(error, RunnerUnavailable)
    return error


def redelivered(cluster: MemoryCluster) -> float:
    """How many messages were sent again."""
    return cluster.metrics().value("cluster_redeliveries_total", entity_type="silent.Desk")


def test_what_was_with_a_runner_that_stands_still_ends_when_its_lease_has(
    memory_cluster: MemoryCluster,
) -> None:
    """Not at the deadline: idempotent messages succeed elsewhere, the others may have run; order holds."""
    desk, silent = a_desk_and_its_runner(memory_cluster)
    memory_cluster.pause(silent)
    first, second, third = desk.again.remote(1), desk.once.remote(2), desk.again.remote(3)
    memory_cluster.clock.advance(LEASE_S / 2)
    assert not first.done() and not second.done()
    memory_cluster.clock.advance(TAKEN_S - LEASE_S / 2)
    assert [first.result(0), third.result(0)] == [1, 3]
    error = error_of(second)
    assert error.may_have_run and error.runner == silent
    assert began == [1, 3]
    assert redelivered(memory_cluster) == 1  # the third had not left: a lane has two exchanges under way
    memory_cluster.resume(silent)
    memory_cluster.clock.advance(30.0)
    assert began == [1, 3]


def test_what_is_sent_after_the_lease_ended_goes_to_the_new_owner(memory_cluster: MemoryCluster) -> None:
    """It cannot have run at the runner that stands still, so it is sent again although it must not run twice."""
    desk, silent = a_desk_and_its_runner(memory_cluster)
    memory_cluster.pause(silent)
    memory_cluster.clock.advance(TAKEN_S + 0.1)
    assert owner_of(memory_cluster, desk) != silent
    replies = [desk.once.remote(number) for number in range(5)]
    memory_cluster.clock.advance(SILENT_S)
    assert [reply.result(0) for reply in replies] == [0, 1, 2, 3, 4]
    assert redelivered(memory_cluster) == 2  # the others had not left: a lane has two exchanges under way
    direct = desk.once.remote(5)
    memory_cluster.clock.settle()
    assert direct.result(0) == 5
    memory_cluster.resume(silent)
    memory_cluster.clock.advance(30.0)
    assert began == [0, 1, 2, 3, 4, 5]
    assert redelivered(memory_cluster) == 2


def test_a_runner_that_woke_up_and_is_granted_the_shard_again_runs_nothing_of_before(
    memory_cluster: MemoryCluster,
) -> None:
    """What lay unread there while it stood still was sent again elsewhere; it is refused, under whatever grant."""
    desk, silent = a_desk_and_its_runner(memory_cluster)
    memory_cluster.pause(silent)
    memory_cluster.clock.advance(TAKEN_S + 0.1)
    replies = [desk.once.remote(number) for number in range(3)]
    memory_cluster.clock.advance(SILENT_S)
    assert [reply.result(0) for reply in replies] == [0, 1, 2]
    heir = owner_of(memory_cluster, desk)
    memory_cluster.resume(silent)
    memory_cluster.clock.advance(1.0)
    memory_cluster.kill(heir)
    memory_cluster.clock.advance(2.0)
    again = desk.once.remote(3)
    memory_cluster.clock.advance(2.0)
    assert again.result(0) == 3
    assert began == [0, 1, 2, 3]


@pytest.mark.parametrize("paused_s", [0.4, 1.0, 2.0, 2.8, 3.0, 3.2, 3.4, 3.6, 4.0, 6.0, 12.0])
@pytest.mark.parametrize("sent_after_s", [0.0, 0.3, 2.7, 2.95, 3.05, 3.15, 3.5, 5.0])
def test_nothing_runs_twice_and_nothing_overtakes_however_long_it_stands_still(
    memory_cluster: MemoryCluster, paused_s: float, sent_after_s: float
) -> None:
    """Around the end of the lease: each message runs once at most, in order, and its reply tells the truth."""
    desk, silent = a_desk_and_its_runner(memory_cluster)
    clock = memory_cluster.clock
    replies: list[EntityResponse[int]] = [desk.slowly.remote(0, 0.1)]
    clock.settle()
    assert began == [0]  # it runs, and must not run again
    memory_cluster.pause(silent)
    woken = False
    stopped_at = clock.now()
    for step in range(160):
        passed_s = clock.now() - stopped_at
        if not woken and passed_s >= paused_s:
            memory_cluster.resume(silent)
            woken = True
        if passed_s >= sent_after_s and len(replies) < 40:
            replies += [desk.once.remote(len(replies) + extra) for extra in range(2)]
        clock.advance(0.05 if step < 130 else 1.0)
    assert woken and all(reply.done() for reply in replies)
    assert began == sorted(set(began))
    for number, reply in enumerate(replies):
        if reply.exception() is None:
            assert reply.result() == number and number in began
        else:
            error = reply.exception()
            assert isinstance(error, RunnerUnavailable)
            assert error.may_have_run or number not in began
    # Only what was sent before the lease ended can have been lost.
    assert replies[-1].exception() is None


def test_a_slow_handler_is_no_silence(memory_cluster: MemoryCluster) -> None:
    """Its runner lives: however long it takes, its reply comes, and nothing is sent again."""
    desk, _ = a_desk_and_its_runner(memory_cluster)
    slow, behind = desk.slowly.remote(1, 20.0), desk.once.remote(2)
    memory_cluster.clock.advance(20.0)
    assert [slow.result(0), behind.result(0)] == [1, 2]
    assert redelivered(memory_cluster) == 0


def test_what_an_old_owner_ran_before_it_let_go_is_answered(memory_cluster: MemoryCluster) -> None:
    """In an orderly handoff the shard changes hands while its last answers are on their way: they count."""
    desk, old = a_desk_and_its_runner(memory_cluster)
    slow = desk.slowly.remote(1, 1.0)
    memory_cluster.clock.settle()
    waiting = desk.once.remote(2)
    memory_cluster.drain(old)
    memory_cluster.clock.advance(1.0)
    assert [slow.result(0), waiting.result(0)] == [1, 2]
    assert owner_of(memory_cluster, desk) != old
    assert began == [1, 2]


def test_a_runner_whose_death_only_the_coordinator_knows_of_is_given_up(
    memory_cluster: MemoryCluster,
) -> None:
    """Its node vanished, no exchange ever comes back: senders hear it from the coordinator."""
    desk, lost = a_desk_and_its_runner(memory_cluster)
    memory_cluster.pause(lost)  # as seen from here
    reply = desk.again.remote(1)
    memory_cluster.clock.advance(0.2)
    memory_cluster._loop.call(prove_dead(memory_cluster, lost))
    memory_cluster.clock.advance(SILENT_S)
    assert reply.result(0) == 1


async def prove_dead(cluster: MemoryCluster, runner_id: str) -> None:
    """Tell the coordinator that the runner's process has ended."""
    cluster._memory._service[0].proven_dead(runner_id)


def test_idle_senders_and_busy_ones_ask_nothing(memory_cluster: MemoryCluster) -> None:
    """Questions about the shards are for those whose runner is silent, whatever the rate of messages."""
    desk, _ = a_desk_and_its_runner(memory_cluster)
    memory_cluster.clock.advance(10.0)
    asked: list[int] = []
    service = memory_cluster._memory._service[0]
    routes = service.routes

    async def counted(known_version: int) -> Any:
        asked.append(known_version)
        return await routes(known_version)

    service.routes = counted  # type: ignore[method-assign]  # to count the questions
    for number in range(200):
        assert desk.once.remote(number).result(30) == number
        memory_cluster.clock.advance(0.1)
    memory_cluster.clock.advance(60.0)
    assert asked == []
