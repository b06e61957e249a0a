"""Senders hear of a grant before the runner does: their messages wait there instead of being refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster_app import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.envelope import read_messages, write
from cluster_app.exchange import Answer, Request
from cluster_app.grants import Lease, Renewal
from cluster_app.testing import MemoryCluster
from entities.catalog import Counter
from tests.cluster.overheard import overheard

COUNTER = {"entity_type": "Counter"}


@pytest.fixture
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the coordinator answers to a runner takes 20 ms longer than what it answers to a sender."""
    renew = CoordinatorService.renew

    async def slowly(service: CoordinatorService, renewal: Renewal) -> Lease:
        lease = await renew(service, renewal)
        await asyncio.sleep(0.02)
        return lease

    monkeypatch.setattr(CoordinatorService, "renew", slowly)


@pytest.mark.usefixtures("slow_answers")
@pytest.mark.parametrize("runners", [1, 3])
def test_a_fresh_cluster_sends_nothing_twice(runners: int) -> None:
    """Five thousand messages to a thousand entities, before any runner has heard that it serves one of them."""
    with MemoryCluster(runners=runners) as cluster:
        counters = [cluster.entity(Counter, str(number)) for number in range(1000)]
        replies = [counters[number % 1000].increment.remote() for number in range(5000)]
        cluster.clock.advance(1.0)
        assert [reply.result(0) for reply in replies] == [1 + number // 1000 for number in range(5000)]
        metrics = cluster.metrics()
        assert metrics.value("cluster_redeliveries_total", **COUNTER) == 0
        assert metrics.value("cluster_messages_received_total", **COUNTER) == 5000


@pytest.mark.usefixtures("slow_answers")
def test_after_a_kill_what_had_not_started_is_sent_again_once_only() -> None:
    """The heir of the shards is asked as soon as senders hear of it, and it hears of it later: it refuses nothing."""
    with MemoryCluster(runners=2) as cluster:
        counters = [cluster.entity(Counter, str(number)) for number in range(100)]
        cluster.clock.advance(1.0)
        for counter in counters:
            counter.increment.remote()
        cluster.clock.advance(1.0)
        cluster.kill(sorted(runner.id for runner in cluster.status().runners)[0])
        replies = [counter.increment.remote() for counter in counters]
        cluster.clock.advance(0.5)
        assert all(reply.done() for reply in replies)
        by_reason = cluster.metrics().value
        assert by_reason("cluster_redeliveries_total", reason="EntityNotAssignedToRunner", **COUNTER) == 0


def test_a_runner_that_never_hears_of_the_grant_answers_in_half_a_lease() -> None:
    """A frame that knows of a later grant than anybody gave is not held for ever, and holds up nobody else."""
    with MemoryCluster(runners=1, config=ClusterConfig(lease_s=4.0)) as cluster:
        counter = cluster.entity(Counter, "x")
        (memory,) = cluster._memory._runners.values()
        carry = memory.exchange
        requests = overheard(memory)
        assert counter.increment.remote().result(30) == 1
        first = next(request for request in requests if request.parcel is not None)
        answers: list[Any] = []
        carry(knowing(first, (9, 9)), answers.append)
        cluster.clock.advance(1.9)
        assert answers == []
        assert counter.increment.remote().result(30) == 2
        cluster.clock.advance(0.1)
        (answer,) = answers
        assert isinstance(answer, Answer) and answer.received == 1
        assert counter.read.remote().result(30) == 3  # its shard is served here after all


def knowing(request: Request, granted: tuple[int, int]) -> Request:
    """The same first frame, of another sender that knows of this grant."""
    assert request.parcel is not None
    frame = read_messages(request.parcel.data)._replace(granted=granted)
    return request._replace(sender=f"a ghost {granted}", parcel=request.parcel._replace(data=write(frame)))


def test_a_frame_from_before_all_was_taken_from_a_runner_is_refused() -> None:
    """Its sender knows of no grant since: it has sent it elsewhere by now, or will when it hears of the refusal."""
    with MemoryCluster(runners=1) as cluster:
        counter = cluster.entity(Counter, "x")
        (memory,) = cluster._memory._runners.values()
        carry = memory.exchange
        requests = overheard(memory)
        assert counter.increment.remote().result(30) == 1
        before = next(request for request in requests if request.parcel is not None)
        assert before.parcel is not None
        granted = read_messages(before.parcel.data).granted
        heir = cluster._memory
        cluster._loop.call(another(heir))
        memory_id = memory.runner.runner_id
        cluster.pause(memory_id)
        cluster.clock.advance(6.0)
        cluster.resume(memory_id)
        cluster.clock.advance(1.0)
        cluster.kill(next(name for name in heir._runners if name != memory_id))
        cluster.clock.advance(3.0)
        assert memory.runner.tenure.fenced > granted
        answers: list[Any] = []
        carry(knowing(before, granted), answers.append)
        carry(knowing(before, tuple(max(memory.runner.tenure.grants.values()))), answers.append)  # type: ignore[arg-type]  # two numbers
        cluster.clock.settle()
        assert [answer.received for answer in answers] == [1, 1]
        assert memory.runner.tenure.owns(counter.read.slot.shard)  # type: ignore[attr-defined]  # behind the type is a message
        assert counter.read.remote().result(30) == 1  # the second alone ran


async def another(memory: Any) -> None:
    """One more runner."""
    await memory.join(None)
