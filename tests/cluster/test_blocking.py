"""Messages declared with `blocking=True`: on threads, one at a time per entity, with everything else as usual."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster_app import (
    CallCycle,
    Cancelled,
    Cluster,
    ClusterConfig,
    Entity,
    HandlerError,
    RunnerUnavailable,
    Timeout,
    entity,
    message,
)
from cluster_app.testing import MemoryCluster
from entities.response import RUNNER_THREADS

if TYPE_CHECKING:
    from tests.conftest import Counts

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


class Doors:
    """Doors that handlers of this process stand before until a test opens them."""

    def __init__(self) -> None:
        self.standing = threading.Semaphore(0)
        self.open = threading.Event()


# In memory the entities live in the test's own process.
doors: dict[str, Doors] = {}


@pytest.fixture
def door() -> Iterator[str]:
    """The name of a door; it is open once the test is over, so that no thread is left before it."""
    name = uuid.uuid4().hex
    doors[name] = Doors()
    yield name
    doors.pop(name).open.set()


@entity(name="blocking.Clerk", max_idle_time=None)
class Clerk(Entity):
    """Blocks, and looks about where it does."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.ticks = 0
        self.at_once = 0

    @message(blocking=True)
    def where(self) -> dict[str, Any]:
        self.at_once += 1
        assert self.at_once == 1, "two messages at a time"
        before = mark.get()
        mark.set("handler's")
        self.at_once -= 1
        return {
            "thread": threading.current_thread().name,
            "loop": threading.get_ident() in RUNNER_THREADS,
            "address": str(self.address),
            "sender": str(self.sender),
            "epoch": self.epoch,
            "mark": before,
        }

    @message(blocking=True)
    def note(self, number: int) -> list[int]:
        self.order.append(number)
        return self.order

    @message
    def note_on_the_loop(self, number: int) -> list[int]:
        self.order.append(number)
        return self.order

    @message(blocking=True)
    def wait(self, door: str) -> str:
        doors[door].standing.release()
        doors[door].open.wait(50)
        return self.address.id

    @message(blocking=True)
    def fail(self, kind: str) -> None:
        raise {"value": ValueError("mine"), "stop": StopIteration(1), "exit": SystemExit(3)}[kind]

    @message(blocking=True)
    def ask(self, other: str, method: str, timeout_s: float | None = None) -> Any:
        reply = getattr(self.entity(Clerk, other), method).options(timeout_s=timeout_s).remote()
        return reply.result(50)

    @message(blocking=True)
    def ask_on(self, path: list[str]) -> str:
        if not path:
            return self.address.id
        return self.entity(Clerk, path[0]).ask_on.remote(path[1:]).result(50)

    @message(blocking=True)
    def ask_on_before(self, door: str, other: str) -> str:
        doors[door].standing.release()
        doors[door].open.wait(50)
        try:
            return self.entity(Clerk, other).ask_on.options(timeout_s=5.0).remote([]).result(50)
        except Timeout as error:
            return f"may have run: {error.may_have_run}"

    @message
    async def relay(self, other: str) -> dict[str, Any]:
        return await self.entity(Clerk, other).where.remote()

    @message(blocking=True)
    def leave(self) -> str:
        self.deactivate()
        return self.address.id

    @message(blocking=True)
    def tick_every(self, seconds: float) -> None:
        self.every(seconds, "tick")

    @message
    def tick(self) -> None:
        self.ticks += 1

    @message
    def ticked(self) -> int:
        return self.ticks

    @message(blocking=True)
    def log(self, path: str) -> None:
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(entity_address)s %(message)s"))
        logger = logging.getLogger("tests.blocking")
        logger.addHandler(handler)
        try:
            logger.warning("on a thread")
        finally:
            logger.removeHandler(handler)
            handler.close()


CLERK = {"entity_type": "blocking.Clerk"}


def clerk(cluster: Cluster, name: str = "") -> Clerk:
    """A clerk that no other test knows."""
    return cluster.entity(Clerk, name or uuid.uuid4().hex)


def test_it_runs_on_a_thread_and_knows_where_it_is(cluster: Cluster) -> None:
    """Not on the loop; address, sender, epoch and context are the message's own."""
    one, other = clerk(cluster), clerk(cluster)
    told = one.where.remote().result(30)
    assert told["thread"].startswith("entity-handler-")
    assert not told["loop"]
    assert told["address"] == str(one)
    assert told["sender"] == "None"
    assert told["epoch"] > (0, 0)
    assert [one.where.remote().result(30)["mark"] for _ in range(3)] == ["clean"] * 3
    assert other.relay.remote(str(one).partition("/")[2]).result(30)["sender"] == str(other)


def test_messages_keep_their_order_and_come_one_at_a_time(cluster: Cluster, counts: Counts) -> None:
    """Blocking ones and others to one entity are handled as they were sent, none while another runs."""
    one = clerk(cluster)
    replies = [(one.note if number % 3 else one.note_on_the_loop).remote(number) for number in range(60)] + [
        one.note.remote(60)
    ]
    assert replies[-1].result(30) == list(range(61))
    assert [len(reply.result(30)) for reply in replies] == list(range(1, 62))
    crowd = [one.where.remote() for _ in range(50)]
    assert {reply.result(30)["address"] for reply in crowd} == {str(one)}
    counts.refresh()
    assert counts.of("cluster_messages_received_total", **CLERK) == 111
    assert counts.of("cluster_mailbox_wait_seconds", **CLERK) == 111
    assert counts.of("cluster_handler_duration_seconds", **CLERK, method="note", outcome="ok") == 41
    counts.check_invariants("blocking.Clerk")


@pytest.mark.parametrize(
    ("kind", "expected"), [("value", ValueError), ("stop", StopIteration), ("exit", SystemExit)]
)
def test_what_it_raises_is_a_handler_error(
    cluster: Cluster, counts: Counts, kind: str, expected: type[BaseException]
) -> None:
    """Whatever it is; the thread goes on with the next message."""
    one = clerk(cluster)
    with pytest.raises(HandlerError) as caught:
        one.fail.remote(kind).result(30)
    assert type(caught.value.__cause__) is expected
    assert "in fail" in caught.value.traceback_text
    assert one.note.remote(1).result(30) == [1]
    counts.refresh()
    assert counts.of("cluster_handler_duration_seconds", **CLERK, method="fail", outcome="error") == 1
    counts.check_invariants("blocking.Clerk")


def test_it_may_wait_for_replies(cluster: Cluster) -> None:
    """`.result()` on its thread, through six entities, some of which live on the same runner."""
    run = uuid.uuid4().hex
    path = [f"{run}-{number}" for number in range(6)]
    assert clerk(cluster, f"{run}-start").ask_on.remote(path).result(30) == path[-1]


def test_a_chain_that_comes_back_fails(cluster: Cluster) -> None:
    """The call chain travels with the thread: CallCycle, at once, not a deadlock."""
    run = uuid.uuid4().hex
    one = clerk(cluster, f"{run}-0")
    with pytest.raises(HandlerError) as caught:
        one.ask_on.remote([f"{run}-1", f"{run}-0"]).result(30)
    cause: BaseException | None = caught.value
    while isinstance(cause, HandlerError):
        cause = cause.__cause__
    assert isinstance(cause, CallCycle)


def test_it_may_end_its_entity_and_start_timers(memory_cluster: MemoryCluster) -> None:
    """From its thread: deactivated after the message, a timer that ticks on time."""
    one = clerk(memory_cluster)
    one.tick_every.remote(1.0).result(30)
    memory_cluster.clock.advance(10.0)
    assert one.ticked.remote().result(30) == 10
    one.leave.remote().result(30)
    assert one.ticked.remote().result(30) == 0
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_entity_deactivations_total", **CLERK, reason="explicit") == 1
    assert metrics.value("cluster_entity_activations_total", **CLERK) == 2


def test_log_records_carry_the_address(cluster: Cluster, tmp_path: Path) -> None:
    """On the handler's thread as on the loop."""
    one = clerk(cluster)
    one.log.remote(str(tmp_path / "log")).result(30)
    assert (tmp_path / "log").read_text() == f"{one} on a thread\n"


def test_the_loop_goes_on_meanwhile(memory_cluster: MemoryCluster, door: str) -> None:
    """While one entity blocks, others on the same loop answer; its own messages wait."""
    one, other = clerk(memory_cluster), clerk(memory_cluster)
    blocked = one.wait.remote(door)
    doors[door].standing.acquire(timeout=30)
    behind = one.note_on_the_loop.remote(1)
    assert other.note_on_the_loop.remote(1).result(30) == [1]
    memory_cluster.clock.advance(5.0)
    assert not blocked.done()
    assert not behind.done()
    doors[door].open.set()
    assert behind.result(30) == [1]
    metrics = memory_cluster.metrics()
    took = metrics.histogram("cluster_handler_duration_seconds", **CLERK, method="wait")
    assert (took.count, took.sum) == (1, 5.0)
    waited = metrics.histogram("cluster_mailbox_wait_seconds", **CLERK)
    assert (waited.count, waited.sum) == (3, 5.0)


def test_cancelled_while_it_runs_it_runs_to_its_end(memory_cluster: MemoryCluster, door: str) -> None:
    """A thread cannot be interrupted: the entity stays busy, and the reply is the handler's."""
    one = clerk(memory_cluster)
    running = one.wait.remote(door)
    doors[door].standing.acquire(timeout=30)
    behind = one.note.remote(1)
    assert running.cancel()
    memory_cluster.clock.settle()
    assert not running.done()
    assert not behind.done()
    doors[door].open.set()
    assert running.result(30) == str(one).partition("/")[2]
    assert behind.result(30) == [1]


@pytest.fixture
def one_thread() -> Iterator[MemoryCluster]:
    """One runner with one thread for blocking handlers."""
    with MemoryCluster(runners=1, config=ClusterConfig(blocking_threads=1)) as cluster:
        yield cluster


def test_handlers_wait_for_a_thread_in_the_mailbox_wait(one_thread: MemoryCluster, door: str) -> None:
    """The wait for a free thread is no handler's time: two entities, one thread, ten seconds."""
    first, second = clerk(one_thread), clerk(one_thread)
    running, waiting = first.wait.remote(door), second.note.remote(1)
    doors[door].standing.acquire(timeout=30)
    one_thread.clock.advance(10.0)
    assert not waiting.done()
    doors[door].open.set()
    assert waiting.result(30) == [1]
    assert running.result(30)
    metrics = one_thread.metrics()
    assert metrics.histogram("cluster_handler_duration_seconds", **CLERK, method="note").sum == 0.0
    assert metrics.histogram("cluster_handler_duration_seconds", **CLERK, method="wait").sum == 10.0
    assert metrics.histogram("cluster_mailbox_wait_seconds", **CLERK).sum == 10.0


def test_cancelled_before_a_thread_is_free_it_never_runs(one_thread: MemoryCluster, door: str) -> None:
    """The reply promises it, the entity is free at once, and no handler time is counted."""
    first, second = clerk(one_thread), clerk(one_thread)
    running, waiting = first.wait.remote(door), second.note.remote(1)
    doors[door].standing.acquire(timeout=30)
    one_thread.clock.settle()
    assert waiting.cancel()
    with pytest.raises(Cancelled) as caught:
        waiting.result(30)
    assert not caught.value.may_have_run
    assert second.note_on_the_loop.remote(2).result(30) == [2]
    doors[door].open.set()
    assert running.result(30)
    assert second.note.remote(3).result(30) == [2, 3]
    assert one_thread.metrics().value("cluster_handler_duration_seconds", **CLERK, method="note") == 1


def test_its_deadline_passes_before_a_thread_is_free(one_thread: MemoryCluster, door: str) -> None:
    """It never starts, and what is behind it in the mailbox goes on before any thread is free."""
    first, second = clerk(one_thread), clerk(one_thread)
    running = first.wait.options(timeout_s=60.0).remote(door)
    late = second.note.options(timeout_s=2.0).remote(1)
    behind = second.note_on_the_loop.remote(2)
    doors[door].standing.acquire(timeout=30)
    one_thread.clock.advance(1.999)
    assert not late.done()
    one_thread.clock.advance(0.5)
    with pytest.raises(Timeout):
        late.result(30)
    assert behind.result(30) == [2]
    doors[door].open.set()
    assert running.result(30)
    assert second.note_on_the_loop.remote(3).result(30) == [2, 3]
    assert one_thread.metrics().value("cluster_handler_duration_seconds", **CLERK, method="note") == 0


def test_threads_that_wait_for_each_other_end_by_their_deadlines(door: str) -> None:
    """All threads wait for handlers that need a thread: each inner message ends with Timeout, then all goes on."""
    with MemoryCluster(runners=1, config=ClusterConfig(blocking_threads=2)) as cluster:
        asking = [clerk(cluster), clerk(cluster)]
        asked = [uuid.uuid4().hex, uuid.uuid4().hex]
        replies = [a.ask_on_before.remote(door, b) for a, b in zip(asking, asked, strict=True)]
        for _ in replies:
            assert doors[door].standing.acquire(timeout=30)
        doors[door].open.set()
        end = time.monotonic() + 30
        while cluster.metrics().value("cluster_messages_received_total", **CLERK) < 4:
            assert time.monotonic() < end, "the inner messages were not sent"
        cluster.clock.advance(5.0)
        assert [reply.result(30) for reply in replies] == ["may have run: True"] * 2
        assert [clerk(cluster, name).note.remote(1).result(30) for name in asked] == [[1], [1]]
        assert cluster.metrics().value("cluster_handler_duration_seconds", **CLERK, method="ask_on") == 0


def test_nothing_leaves_while_the_lease_has_ended(memory_cluster: MemoryCluster, door: str) -> None:
    """Done in a suspended runner, its reply is held until the runner may go on; nothing new begins there."""
    one = clerk(memory_cluster)
    assert one.note.remote(1).result(30) == [1]
    running = one.wait.options(timeout_s=100.0).remote(door)
    doors[door].standing.acquire(timeout=30)
    behind = one.note.options(timeout_s=100.0).remote(2)
    runners = [runner.id for runner in memory_cluster.status().runners]
    for runner in runners:
        memory_cluster.pause(runner)
    memory_cluster.clock.advance(0.5)
    doors[door].open.set()
    for _ in range(20):
        memory_cluster.clock.settle()
    assert not running.done()
    assert not behind.done()
    for runner in runners:
        memory_cluster.resume(runner)
    assert running.result(30)
    assert behind.result(30) == [1, 2]


def test_a_cluster_ends_while_a_handler_blocks(door: str) -> None:
    """The shutdown waits for no thread, and its sender is told."""
    with MemoryCluster(runners=1) as cluster:
        blocked = clerk(cluster).wait.remote(door)
        doors[door].standing.acquire(timeout=30)
        threads = {t for t in threading.enumerate() if t.name.startswith("entity-handler-")}
        cluster.shutdown()
    with pytest.raises(Cancelled):
        blocked.result(30)
    doors[door].open.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_killed_runner_takes_its_blocked_handler_along(memory_cluster: MemoryCluster, door: str) -> None:
    """RunnerUnavailable for its sender; the next message lives elsewhere."""
    one = clerk(memory_cluster)
    blocked = one.wait.remote(door)
    doors[door].standing.acquire(timeout=30)
    for runner in memory_cluster.status().runners:
        memory_cluster.kill(runner.id)
    memory_cluster.clock.advance(1.0)
    with pytest.raises(RunnerUnavailable) as caught:
        blocked.result(30)
    assert caught.value.may_have_run
    after = one.note.remote(1)
    memory_cluster.clock.advance(1.0)
    assert after.result(30) == [1]


def test_a_coroutine_function_is_refused() -> None:
    """Where it is written, and told what to write instead."""
    with pytest.raises(TypeError, match=r"coroutine function.*plain 'def'"):

        @message(blocking=True)
        async def wait(self: Any) -> None:
            await asyncio.sleep(0)
