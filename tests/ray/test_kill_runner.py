"""A runner's process is killed: what was pending ends at once, and another runner takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest

from cluster_app import Cluster, Entity, EntityResponse, RunnerUnavailable, entity, message
from tests.conftest import Counts

pytestmark = pytest.mark.ray

PENDING_ENDS_S = 0.5
TAKES_OVER_S = 2.0


@entity(max_idle_time=None)
class Turnstile(Entity):
    def __init__(self) -> None:
        self.passed = 0

    @message
    def go_through(self) -> int:
        self.passed += 1
        return self.passed

    @message
    async def stand_in_it(self) -> None:
        await asyncio.Event().wait()

    @message
    def jam(self, in_process: int) -> None:
        if os.getpid() == in_process:
            threading.Event().wait()  # for good: its runner's event loop stands still

    @message(idempotent=True)
    async def read_elsewhere(self, than_in: int) -> int:
        if os.getpid() == than_in:
            await asyncio.Event().wait()
        return os.getpid()


@entity(max_idle_time=None)
class PendingTurnstile(Turnstile):
    pass


@entity(max_idle_time=None)
class JammedTurnstile(Turnstile):
    pass


@entity(max_idle_time=None)
class IdempotentTurnstile(Turnstile):
    pass


@entity(max_idle_time=None)
class ReportedTurnstile(Turnstile):
    pass


@entity(max_idle_time=None)
class CrowdedTurnstile(Turnstile):
    pass


def runner_pid(cluster: Cluster) -> int:
    """The process of the one runner there is."""
    (runner,) = cluster.status().runners
    return runner.pid


def kill(pid: int) -> float:
    """End a process with SIGKILL; returns when that was."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def lost(reply: EntityResponse[None], killed_at: float) -> RunnerUnavailable:
    """The error of a reply that has to end within the bound."""
    with pytest.raises(RunnerUnavailable) as caught:
        reply.result(timeout_s=PENDING_ENDS_S - (time.monotonic() - killed_at))
    return caught.value


def test_every_pending_reply_ends_at_once_and_new_messages_succeed_soon(file_cluster: Cluster) -> None:
    """After kill -9 replies end within 0.5 s as RunnerUnavailable, and a new runner answers within 2 s."""
    turnstiles = [file_cluster.entity(PendingTurnstile, f"north-{number}") for number in range(50)]
    assert turnstiles[0].go_through.remote().result(timeout_s=10) == 1
    counts = Counts(file_cluster)
    pending = [turnstile.stand_in_it.remote() for turnstile in turnstiles]
    file_cluster.entity(PendingTurnstile, "south").go_through.remote().result(
        timeout_s=10
    )  # they have arrived
    pid = runner_pid(file_cluster)

    killed_at = kill(pid)
    errors = [lost(reply, killed_at) for reply in pending]
    after = [turnstile.go_through.remote() for turnstile in turnstiles]
    values = [reply.result(timeout_s=TAKES_OVER_S - (time.monotonic() - killed_at)) for reply in after]

    assert all(error.may_have_run for error in errors)
    assert all(error.address is not None and error.runner is not None for error in errors)
    assert values == [1] * 50  # what was in memory died with the process
    assert runner_pid(file_cluster) != pid
    counts.refresh()
    kind = "PendingTurnstile"
    assert counts.of("cluster_messages_sent_total", entity_type=kind) == 101
    assert counts.of("cluster_errors_total", entity_type=kind) == 50
    assert counts.of("cluster_errors_total", entity_type=kind, type="RunnerUnavailable") == 50
    assert counts.of("cluster_message_latency_seconds", entity_type=kind, outcome="ok") == 51
    assert counts.of("cluster_redeliveries_total", entity_type=kind) == 0
    counts.check_invariants(kind)


def test_messages_that_had_not_left_go_to_the_new_runner_in_order(file_cluster: Cluster) -> None:
    """Behind a jammed runner messages wait with their sender; after its death they are handled, none lost."""
    turnstile = file_cluster.entity(JammedTurnstile, "x")
    assert turnstile.go_through.remote().result(timeout_s=10) == 1
    pid = runner_pid(file_cluster)
    counts = Counts(file_cluster)

    jammed = turnstile.jam.remote(pid)
    under_way = turnstile.go_through.remote()
    with pytest.raises(TimeoutError):
        under_way.result(
            timeout_s=0
        )  # waited for, it is the second of two exchanges that a lane has under way
    waiting = [turnstile.go_through.remote() for _ in range(100)]
    killed_at = kill(pid)

    assert lost(jammed, killed_at).may_have_run
    with pytest.raises(RunnerUnavailable):
        under_way.result(timeout_s=PENDING_ENDS_S - (time.monotonic() - killed_at))
    values = [reply.result(timeout_s=TAKES_OVER_S - (time.monotonic() - killed_at)) for reply in waiting]
    assert values == list(range(1, 101))
    counts.refresh()
    kind = "JammedTurnstile"
    assert counts.of("cluster_messages_sent_total", entity_type=kind) == 102
    assert counts.of("cluster_errors_total", entity_type=kind, type="RunnerUnavailable") == 2
    assert counts.of("cluster_message_latency_seconds", entity_type=kind, outcome="ok") == 100
    counts.check_invariants(kind)


def test_an_idempotent_message_is_sent_again(file_cluster: Cluster) -> None:
    """A pending message that may run twice is redelivered under its id and succeeds; each resend is counted."""
    turnstiles = [file_cluster.entity(IdempotentTurnstile, str(number)) for number in range(20)]
    turnstiles[0].go_through.remote().result(timeout_s=10)
    pid = runner_pid(file_cluster)
    counts = Counts(file_cluster)
    pending = [turnstile.read_elsewhere.remote(pid) for turnstile in turnstiles]
    file_cluster.entity(IdempotentTurnstile, "beside").go_through.remote().result(timeout_s=10)

    killed_at = kill(pid)
    answered_by = {reply.result(timeout_s=TAKES_OVER_S - (time.monotonic() - killed_at)) for reply in pending}

    assert answered_by == {runner_pid(file_cluster)}
    counts.refresh()
    kind = "IdempotentTurnstile"
    assert counts.of("cluster_redeliveries_total", entity_type=kind) == 20
    assert counts.of("cluster_redeliveries_total", entity_type=kind, reason="RunnerUnavailable") == 20
    assert counts.of("cluster_messages_sent_total", entity_type=kind) == 21
    assert counts.of("cluster_errors_total", entity_type=kind) == 0
    counts.check_invariants(kind)


def test_what_a_killed_runner_had_reported_stays_counted(file_cluster: Cluster) -> None:
    """A killed process loses at most what it had not sent yet; its successor's counts come on top, exactly."""
    counts = Counts(file_cluster)
    turnstile = file_cluster.entity(ReportedTurnstile, "x")
    assert [turnstile.go_through.remote() for _ in range(500)][-1].result(timeout_s=10) == 500
    counts.refresh()
    kind = "ReportedTurnstile"
    assert counts.of("cluster_messages_received_total", entity_type=kind) == 500

    assert [turnstile.go_through.remote() for _ in range(30)][-1].result(timeout_s=10) == 530
    killed_at = kill(runner_pid(file_cluster))
    # Held until a grant exists, or refused as its runner dies under it: either way the next one meets the successor.
    reply = turnstile.go_through.remote()
    lost_with_it = 0
    try:
        reply.result(timeout_s=TAKES_OVER_S)
    except RunnerUnavailable:
        lost_with_it = 1
    values = [turnstile.go_through.remote() for _ in range(40)]
    assert values[-1].result(timeout_s=TAKES_OVER_S - (time.monotonic() - killed_at)) == 41 - lost_with_it

    counts.refresh()
    received = counts.of("cluster_messages_received_total", entity_type=kind)
    by_the_successor = 41 - lost_with_it
    assert 500 + by_the_successor <= received <= 530 + by_the_successor
    assert 1 + 1 <= counts.of("cluster_entity_activations_total", entity_type=kind) <= 2
    assert counts.of("cluster_messages_sent_total", entity_type=kind) == 571
    assert counts.of("cluster_message_latency_seconds", entity_type=kind, outcome="ok") == 571 - lost_with_it
    counts.check_invariants(kind)


def test_under_load_every_acknowledged_message_counts_once(file_cluster: Cluster) -> None:
    """With thousands in flight each entity's replies run 1..a, then errors, then 1..b on the new runner."""
    turnstiles = [file_cluster.entity(CrowdedTurnstile, str(number)) for number in range(20)]
    turnstiles[0].go_through.remote().result(timeout_s=10)
    pid = runner_pid(file_cluster)
    counts = Counts(file_cluster)
    failed_at: list[float] = []

    def note(reply: EntityResponse[Any]) -> None:
        if reply.exception() is not None:
            failed_at.append(time.monotonic())

    replies = [turnstiles[number % 20].go_through.remote() for number in range(10_000)]
    jammed = turnstiles[0].jam.remote(pid)  # so that not all can be answered
    replies += [turnstiles[number % 20].go_through.remote() for number in range(10_000)]
    for reply in replies:
        reply.add_done_callback(note)
    jammed.add_done_callback(note)
    replies[3000].result(timeout_s=10)

    killed_at = kill(pid)
    outcomes: list[list[int | None]] = [[] for _ in turnstiles]
    for number, reply in enumerate(replies):
        try:
            outcomes[number % 20].append(reply.result(timeout_s=10))
        except RunnerUnavailable as error:
            assert error.may_have_run
            outcomes[number % 20].append(None)

    for number, outcome in enumerate(outcomes):
        died = outcome.count(None)
        before = outcome.index(None) if died else 1000
        first = 2 if number == 0 else 1
        assert outcome[:before] == list(range(first, first + before))
        assert outcome[before : before + died] == [None] * died
        after = 1000 - before - died
        assert outcome[before + died :] == list(range(1, after + 1))
        if died:
            assert turnstiles[number].go_through.remote().result(timeout_s=10) == after + 1
    failed = sum(outcome.count(None) for outcome in outcomes) + (jammed.exception() is not None)
    assert len(failed_at) == failed > 0
    assert max(failed_at) - killed_at < PENDING_ENDS_S
    counts.refresh()
    kind = "CrowdedTurnstile"
    assert counts.of("cluster_errors_total", entity_type=kind, type="RunnerUnavailable") == failed
    asked = sum(None in outcome for outcome in outcomes)
    assert counts.of("cluster_messages_sent_total", entity_type=kind) == 20_001 + asked
    counts.check_invariants(kind)
