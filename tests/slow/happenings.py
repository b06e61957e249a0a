"""Everything that a metric counts, made to happen once or more on a live cluster of two runners."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import ray

from cluster_app import (
    ActivationFailed,
    CallCycle,
    Cancelled,
    Cluster,
    ClusterConfig,
    ClusterError,
    Entity,
    EntityResponse,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    RunnerNotRegistered,
    RunnerUnavailable,
    Timeout,
    entity,
    message,
)
from cluster_app.status import ClusterStatus
from observe.metrics import instrument, track_cluster
from tests.ray.seen import seen
from tests.slow.two_nodes import settled

__all__ = ["CONFIG", "ERRORS", "ApartClerk", "Clerk", "both_at_work", "come_and_go", "happen"]

# A runner that was killed is a sender that says nothing more: before that is noticed, the other one, drained, goes on.
CONFIG = ClusterConfig(runners_per_node=2, lane_silence_s=5.0)

ERRORS: dict[type[ClusterError], str] = {
    HandlerError: "a handler raises",
    MalformedMessage: "arguments that do not bind",
    MailboxFull: "more messages than a mailbox holds",
    Timeout: "a handler that takes longer than its deadline",
    Cancelled: "its sender cancels it",
    CallCycle: "A asks B, which asks A",
    ActivationFailed: "an entity that cannot come to life",
    RunnerNotRegistered: "a process that asks for what no node has",
    RunnerUnavailable: "its runner is killed",
}
"""The errors that happen here, with their causes."""


@entity(max_idle_time=None)
class Clerk(Entity):
    @message
    def work(self, number: int) -> int:
        return number

    @message
    def fail(self) -> None:
        raise ValueError("on purpose")

    @message
    def stall(self) -> None:
        time.sleep(0.15)

    @message
    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @message(idempotent=True)
    async def process(self, other_than: int) -> int:
        if os.getpid() == other_than:
            await asyncio.Event().wait()
        return os.getpid()

    @message
    async def ask_back(self, other: Clerk) -> str:
        return await other.be_asked.remote(self.entity(Clerk, self.address.id))

    @message
    async def be_asked(self, asker: Clerk) -> str:
        try:
            await asker.work.remote(1)
        except CallCycle:
            return "a cycle"
        return "none"

    @message
    def stay(self) -> None:
        self.keep_alive(3600.0)

    @message
    def go(self) -> None:
        self.deactivate()


@entity(max_idle_time=None, mailbox_capacity=1)
class NarrowClerk(Clerk):
    pass


@entity(max_idle_time=0.5)
class PassingClerk(Clerk):
    pass


@entity()
class UnbornClerk(Clerk):
    def __init__(self) -> None:
        raise OSError("no desk")


@entity(max_idle_time=None)
class StubbornClerk(Clerk):
    async def on_deactivate(self, reason: str) -> None:
        raise OSError("does not want to go")


@entity(hosting="actor", max_idle_time=0.5)
class ApartClerk(Clerk):
    pass


@entity(hosting="actor", resources={"moon": 1})
class MoonClerk(Clerk):
    pass


class Bell(Entity):
    @message
    def ring(self) -> None: ...


@ray.remote(num_cpus=0)
class Outsider:
    def work(self) -> int:
        return 1


def error_of(reply: EntityResponse[object]) -> BaseException | None:
    """How a message ends, within 30 s."""
    try:
        reply.result(timeout_s=30)
    except ClusterError as error:
        return error
    return None


def both_at_work(cluster: Cluster) -> ClusterStatus:
    """The status once each of two runners has all shards that it is wished to have: nothing moves then."""
    return seen(cluster, lambda s: len(s.runners) == 2 and s.shards == 300 and settled(s), within_s=30)


def happen(cluster: Cluster) -> None:
    """All of it; each error and each end of an entity is checked to be what it is meant to be."""
    both_at_work(cluster)
    clerks = [cluster.entity(Clerk, f"desk-{number}") for number in range(20)]
    for clerk in clerks:
        assert clerk.work.remote(7).result(timeout_s=30) == 7
    assert cluster.broadcast(Clerk, "work", 7).result(timeout_s=30).delivered == 20
    cluster.singleton(Bell)
    clerks[0].stall.remote().result(timeout_s=30)
    with track_cluster(operation="receive", entity_type="Post"):
        pass
    outsider: Any = Outsider
    assert ray.get(instrument(outsider.remote()).work.remote(), timeout=30) == 1
    _fail(cluster, clerks)
    come_and_go(cluster)
    _lose_a_runner(cluster, clerks)
    assert cluster.drain(both_at_work(cluster).runners[0].id, timeout_s=30).shards > 0
    both_at_work(cluster)
    for clerk in clerks:
        assert clerk.work.remote(7).result(timeout_s=30) == 7
    cluster.entity(PassingClerk, "guest").stay.remote().result(timeout_s=30)


def _fail(cluster: Cluster, clerks: list[Clerk]) -> None:
    narrow = cluster.entity(NarrowClerk, "counter")
    narrow.work.remote(1).result(timeout_s=30)
    # Longer than is waited for, but it ends: a shard is not handed over while a handler runs.
    hanging = [narrow.rest.options(timeout_s=3.0).remote(5.0) for _ in range(10)]
    cancelled = clerks[1].hang.remote()
    cancelled.cancel()
    ended = [
        clerks[0].fail.remote(),
        clerks[0].work.remote("one", "too many"),  # type: ignore[call-arg, arg-type]  # on purpose
        cluster.entity(UnbornClerk, "new").work.remote(1),
        cluster.entity(MoonClerk, "far").work.options(timeout_s=5.0).remote(1),
        cancelled,
        *hanging,
    ]
    errors = {type(error_of(reply)) for reply in ended}
    assert errors == set(ERRORS) - {CallCycle, RunnerUnavailable}, errors
    assert clerks[2].ask_back.remote(clerks[3]).result(timeout_s=30) == "a cycle"


def come_and_go(cluster: Cluster) -> None:
    """An entity of each kind of end comes to life and goes: two idle, one of itself, one whose hook raises."""
    kinds = {"PassingClerk": "idle", "ApartClerk": "idle", "Clerk": "explicit", "StubbornClerk": "failed"}

    def gone() -> list[float]:
        metrics = cluster.metrics()
        return [
            metrics.value("cluster_entity_deactivations_total", entity_type=kind, reason=reason)
            for kind, reason in kinds.items()
        ]

    before = gone()
    cluster.entity(PassingClerk, "brief").work.remote(1).result(timeout_s=30)
    cluster.entity(ApartClerk, "brief").work.remote(1).result(timeout_s=30)
    cluster.entity(Clerk, "leaving").go.remote().result(timeout_s=30)
    cluster.entity(StubbornClerk, "staying").go.remote().result(timeout_s=30)
    deadline = time.monotonic() + 30
    while not all(now > was for now, was in zip(gone(), before, strict=True)):
        assert time.monotonic() < deadline, (before, gone())


def _lose_a_runner(cluster: Cluster, clerks: list[Clerk]) -> None:
    homes = [clerk.process.remote(0).result(timeout_s=30) for clerk in clerks]
    victim = homes[0]
    first, *doomed, last = [clerk for clerk, home in zip(clerks, homes, strict=True) if home == victim]
    again = first.process.remote(victim)  # hangs there, and may be sent again
    lost = [clerk.hang.remote() for clerk in doomed]
    assert last.work.remote(7).result(timeout_s=30) == 7  # so those before it have arrived
    os.kill(victim, signal.SIGKILL)
    assert again.result(timeout_s=30) != victim
    assert {type(error_of(reply)) for reply in lost} == {RunnerUnavailable}
