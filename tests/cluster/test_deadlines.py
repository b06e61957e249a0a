"""When a message's time is over, and when its sender wants it no more or waits for it in some odd place."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cluster_app import (
    CallCycle,
    Cancelled,
    Cluster,
    ClusterError,
    Entity,
    EntityResponse,
    HandlerError,
    Timeout,
    as_completed,
    entity,
    message,
)
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


@entity(name="deadlines.Sponsor")
class Sponsor(Entity):
    """Has another come to life on its own runner."""

    @message
    async def sponsor(self) -> str:
        return await self.entity(Hasty, "x").greet.remote()


@entity(name="deadlines.Hasty")
class Hasty(Entity):
    """Sends a message as it comes to life, and wants it no more."""

    def __init__(self) -> None:
        self.cancelled = self.entity(Worker, "own").note.remote("too late").cancel()

    @message
    def greet(self) -> str:
        return "warm" if self.cancelled else "cold"


@entity(name="deadlines.Worker")
class Worker(Entity):
    """Works as long as it is told, and remembers what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @message
    async def work(self, name: str, seconds: float) -> str:
        self.events.append(f"{name} began")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.events.append(f"{name} was cancelled")
            raise
        self.events.append(f"{name} ended")
        return name

    @message
    def note(self, name: str) -> str:
        self.events.append(name)
        return name

    @message
    def history(self) -> list[str]:
        return self.events


@entity(name="deadlines.Stubborn", concurrency=2)
class Stubborn(Entity):
    """Does not let itself be cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.asked_to_stop = False

    @message
    async def work(self) -> str:
        self.begun.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.asked_to_stop = True
        return "done all the same"

    @message
    async def wait_until_begun(self) -> bool:
        await self.begun.wait()
        return True

    @message
    def was_asked_to_stop(self) -> bool:
        return self.asked_to_stop


@entity(name="deadlines.Bell", concurrency=100)
class Bell(Entity):
    """Rings for all who wait, when told."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.waiting = 0

    @message
    async def wait_for_it(self) -> str:
        self.waiting += 1
        await self.rung.wait()
        return "rung"

    @message
    def ring(self) -> int:
        self.rung.set()
        return self.waiting


@entity(name="deadlines.Caller")
class Caller(Entity):
    """Calls others, itself among them."""

    @message
    async def call(self, path: list[str]) -> str:
        if not path:
            return self.address.id
        return await self.entity(Caller, path[0]).call.remote(path[1:])

    @message
    async def call_with_deadline(self, other: str, seconds: float) -> str:
        try:
            await self.entity(Worker, other).work.options(timeout_s=100.0).remote("nested", seconds)
        except Timeout:
            return "timeout"
        return "done"

    @message
    async def block_here(self, other: str) -> str:
        return self.entity(Worker, other).note.remote("x").result()

    @message
    async def block_elsewhere(self, other: str) -> str:
        reply = self.entity(Worker, other).note.remote("from a thread")
        return await asyncio.to_thread(reply.result, 20)

    @message
    async def not_waiting(self) -> str:
        # The reply is not awaited, so no cycle: the message waits in the mailbox until this one has ended.
        self.entity(Caller, self.address.id).call.remote([])
        return "sent"

    @message
    def who(self) -> list[str]:
        return [str(self.sender)]

    @message
    async def ask_who(self, other: str) -> list[str]:
        return await self.entity(Caller, other).who.remote()


@entity(name="deadlines.Reentrant", reentrant=True)
class Reentrant(Entity):
    """Lets a call chain come back to it."""

    def __init__(self) -> None:
        self.depths: list[int] = []

    @message
    async def countdown(self, depth: int, partner: str) -> int:
        self.depths.append(depth)
        if depth == 0:
            return 0
        return 1 + await self.entity(Reentrant, partner).countdown.remote(depth - 1, self.address.id)

    @message
    def seen(self) -> list[int]:
        return self.depths


def wait_until_delivered(cluster: Cluster) -> None:
    """Until what this sender has sent so far is in its mailboxes. On Ray the lane's order shows it: one runner."""
    if isinstance(cluster, MemoryCluster):
        cluster.clock.settle()
    else:
        cluster.entity(Bell, uuid.uuid4().hex).ring.remote().result(30)


def test_a_running_message_ends_with_timeout_at_its_deadline(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """Timeout is a ClusterError and a TimeoutError; it says that the message may have run."""
    worker = cluster.entity(Worker, uuid.uuid4().hex)
    worker.note.remote("awake").result(30)
    reply = worker.work.options(timeout_s=0.3).remote("long", 0.6)
    if isinstance(cluster, MemoryCluster):
        cluster.clock.advance(0.299)
        assert not reply.done()
        cluster.clock.advance(0.001)
        assert reply.done()
    with pytest.raises(Timeout) as caught:
        reply.result(30)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.may_have_run is True
    let_pass(0.4)
    assert worker.history.remote().result(30)[:2] == ["awake", "long began"]
    counts.refresh()
    assert counts.of("cluster_errors_total", entity_type="deadlines.Worker", type="Timeout") == 1
    counts.check_invariants("deadlines.Worker")


def test_a_message_whose_deadline_comes_in_the_mailbox_never_runs(
    cluster: Cluster, let_pass: Callable[[float], None]
) -> None:
    """It waits behind a long one, its time runs out, and it is not started when its turn comes."""
    worker = cluster.entity(Worker, uuid.uuid4().hex)
    worker.note.remote("awake").result(30)
    long = worker.work.remote("long", 0.5)
    late = worker.note.options(timeout_s=0.2).remote("late")
    after = worker.note.remote("after")
    let_pass(0.5)
    with pytest.raises(Timeout):
        late.result(30)
    assert long.result(30) == "long"
    assert after.result(30) == "after"
    assert worker.history.remote().result(30) == ["awake", "long began", "long ended", "after"]


def test_without_a_deadline_of_its_own_a_message_has_the_default(memory_cluster: MemoryCluster) -> None:
    """30 s by default: not a millisecond earlier, and at once then."""
    worker = memory_cluster.entity(Worker, "default")
    worker.note.remote("awake").result(30)
    reply = worker.work.remote("long", 100.0)
    memory_cluster.clock.advance(29.999)
    assert not reply.done()
    memory_cluster.clock.advance(0.001)
    assert isinstance(reply.exception(), Timeout)


def test_each_of_many_deadlines_is_kept_exactly(memory_cluster: MemoryCluster) -> None:
    """A hundred messages, in mixed order, each end at their own instant of the clock."""
    bell = memory_cluster.entity(Bell, "many")
    bell.ring.options(timeout_s=5.0)
    replies = {
        n: bell.wait_for_it.options(timeout_s=n / 10).remote() for n in (*range(2, 100, 2), *range(1, 100, 2))
    }
    memory_cluster.clock.settle()
    for n in range(1, 100):
        memory_cluster.clock.advance(0.1)
        assert {number for number, reply in replies.items() if reply.done()} == set(range(1, n + 1))
    assert all(isinstance(reply.exception(), Timeout) for reply in replies.values())


def test_result_gives_up_waiting_and_the_message_lives_on(cluster: Cluster) -> None:
    """`.result(timeout_s)` raises the built-in TimeoutError, no ClusterError; a later call gets the reply."""
    bell = cluster.entity(Bell, uuid.uuid4().hex)
    reply = bell.wait_for_it.remote()
    with pytest.raises(TimeoutError, match="lives on") as caught:
        reply.result(0.05)
    assert not isinstance(caught.value, ClusterError)
    assert not reply.done()
    assert bell.ring.remote().result(30) == 1
    assert reply.result(30) == "rung"
    assert reply.result() == "rung"


def test_a_handlers_deadline_bounds_the_messages_it_sends(memory_cluster: MemoryCluster) -> None:
    """A nested message asks for 100 s, but its sender has only 2: it ends then."""
    caller = memory_cluster.entity(Caller, "bounded")
    caller.who.remote().result(30)
    memory_cluster.entity(Worker, "nested").note.remote("awake").result(30)
    reply = caller.call_with_deadline.options(timeout_s=2.0).remote("nested", 50.0)
    memory_cluster.clock.advance(2.0)
    assert isinstance(reply.exception(), Timeout)
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_errors_total", entity_type="deadlines.Worker", type="Timeout") == 1


def test_an_entity_may_cancel_while_it_comes_to_life() -> None:
    """Its sender brings it to life as it hands its message over, and is the one that is asked to cancel."""
    with MemoryCluster(runners=1) as cluster:
        assert cluster.entity(Sponsor, "x").sponsor.remote().result(5) == "warm"
        cluster.clock.settle()
        assert cluster.entity(Worker, "own").history.remote().result(5) == []
        assert cluster.metrics().value("cluster_errors_total", type="Cancelled") == 1


def test_a_queued_message_that_is_cancelled_never_runs(cluster: Cluster, counts: Counts) -> None:
    """It leaves the mailbox, its reply is Cancelled and says that it did not run; those behind it go on."""
    worker = cluster.entity(Worker, uuid.uuid4().hex)
    worker.note.remote("awake").result(30)
    running = worker.work.remote("running", 20.0)
    queued = worker.note.remote("queued")
    behind = worker.note.remote("behind")
    wait_until_delivered(cluster)
    assert queued.cancel() is True
    with pytest.raises(Cancelled) as caught:
        queued.result(30)
    assert caught.value.may_have_run is False
    assert queued.cancel() is False
    assert running.cancel() is True
    with pytest.raises(Cancelled) as caught:
        running.result(30)
    assert caught.value.may_have_run is True
    assert behind.result(30) == "behind"
    assert worker.history.remote().result(30) == ["awake", "running began", "running was cancelled", "behind"]
    counts.refresh()
    assert counts.of("cluster_errors_total", entity_type="deadlines.Worker", type="Cancelled") == 2
    assert counts.of("cluster_messages_received_total", entity_type="deadlines.Worker") == 5
    counts.check_invariants("deadlines.Worker")


def test_a_handler_may_refuse_to_be_cancelled(cluster: Cluster) -> None:
    """One that catches CancelledError and returns gives its sender that value."""
    stubborn = cluster.entity(Stubborn, uuid.uuid4().hex)
    reply = stubborn.work.remote()
    assert stubborn.wait_until_begun.remote().result(30)
    assert reply.cancel() is True
    assert reply.result(30) == "done all the same"
    assert stubborn.was_asked_to_stop.remote().result(30) is True


def test_a_cancelled_message_runs_or_not_but_never_half(cluster: Cluster, counts: Counts) -> None:
    """Cancelled at any moment on its way, a message ends once; what says it did not run did not run."""
    worker = cluster.entity(Worker, uuid.uuid4().hex)
    replies = [worker.note.remote(str(number)) for number in range(2000)]
    for reply in replies[::3]:
        reply.cancel()
    ran = []
    for number, reply in enumerate(replies):
        try:
            assert reply.result(30) == str(number)
            ran.append(str(number))
        except Cancelled as cancelled:
            assert number % 3 == 0
            assert cancelled.may_have_run is False
    assert worker.history.remote().result(30) == ran
    counts.refresh()
    assert counts.of("cluster_errors_total", entity_type="deadlines.Worker", type="Cancelled") == 2000 - len(
        ran
    )
    counts.check_invariants("deadlines.Worker")


def test_cancelling_a_reply_that_is_there_changes_nothing(cluster: Cluster) -> None:
    """False, and the value stays."""
    reply = cluster.entity(Worker, uuid.uuid4().hex).note.remote("x")
    assert reply.result(30) == "x"
    assert reply.cancel() is False
    assert reply.result(30) == "x"


def test_a_message_may_be_cancelled_before_anything_is_registered(memory_cluster: MemoryCluster) -> None:
    """Cancelled on the way out, it is never received."""
    reply = memory_cluster.entity(Worker, "early").note.remote("never")
    reply.cancel()
    memory_cluster.clock.settle()
    assert reply.done()
    assert memory_cluster.entity(Worker, "early").history.remote().result(30) in ([], ["never"])
    metrics = memory_cluster.metrics()
    sent = metrics.value("cluster_messages_sent_total", entity_type="deadlines.Worker")
    assert sent == metrics.value("cluster_message_latency_seconds", entity_type="deadlines.Worker") == 2


def test_many_threads_may_wait_for_one_reply(cluster: Cluster) -> None:
    """All of them get it, those that wait before it is there and those that ask later."""
    bell = cluster.entity(Bell, uuid.uuid4().hex)
    reply = bell.wait_for_it.remote()
    called: list[EntityResponse[str]] = []
    reply.add_done_callback(called.append)
    waiting = threading.Barrier(9)

    def wait() -> str:
        waiting.wait()
        return reply.result(30)

    with ThreadPoolExecutor(8) as pool:
        waits = [pool.submit(wait) for _ in range(8)]
        waiting.wait()
        assert bell.ring.remote().result(30) == 1
        assert [each.result(30) for each in waits] == ["rung"] * 8
    assert called == [reply]
    reply.add_done_callback(called.append)
    assert called == [reply, reply]


def test_replies_can_be_awaited_in_any_event_loop(cluster: Cluster) -> None:
    """`await` works in loops of several threads at once, for one reply and for many."""
    bell = cluster.entity(Bell, uuid.uuid4().hex)
    shared = bell.wait_for_it.remote()
    started = threading.Barrier(4)

    async def wait() -> list[str]:
        own = [bell.wait_for_it.remote() for _ in range(10)]
        started.wait()
        return [await shared, *(await asyncio.gather(*own))]

    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(lambda: asyncio.run(wait())) for _ in range(3)]
        started.wait()
        assert bell.ring.remote().result(30) == 31
        assert [each.result(30) for each in waits] == [["rung"] * 11] * 3


def test_a_task_that_is_cancelled_while_it_awaits_a_reply_leaves_the_message_alone(cluster: Cluster) -> None:
    """`asyncio.timeout` around an await ends the await, not the message."""
    bell = cluster.entity(Bell, uuid.uuid4().hex)

    async def give_up() -> str:
        reply = bell.wait_for_it.remote()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reply
        assert not reply.done()
        assert await bell.ring.remote() == 1
        return await reply

    assert asyncio.run(give_up()) == "rung"


def test_as_completed_gives_replies_in_the_order_they_come(cluster: Cluster) -> None:
    """The one that waits for the other comes last."""
    bell = cluster.entity(Bell, uuid.uuid4().hex)
    slow = bell.wait_for_it.remote()
    quick = cluster.entity(Worker, uuid.uuid4().hex).note.remote("quick")
    arriving = as_completed([slow, quick], timeout_s=30)
    assert next(arriving) is quick
    bell.ring.remote()
    assert next(arriving) is slow


def test_result_on_a_runners_loop_raises_at_once(cluster: Cluster) -> None:
    """It would deadlock; so it raises, and the runner goes on. In a thread of the handler's it may block."""
    run = uuid.uuid4().hex
    caller = cluster.entity(Caller, run)
    with pytest.raises(HandlerError, match="use 'await'") as caught:
        caller.block_here.remote(run).result(10)
    assert type(caught.value.__cause__) is RuntimeError
    assert caller.block_elsewhere.remote(run).result(30) == "from a thread"


@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "a"], ["b", "c", "b"]], ids="-".join)
def test_a_call_chain_that_comes_back_fails_at_once(cluster: Cluster, path: list[str]) -> None:
    """A asks itself, A-B-A, A-B-C-A, A-B-C-B: CallCycle for the last one, within no time, and nobody is stuck."""
    run = uuid.uuid4().hex
    names = [f"{run}-{name}" for name in ("a", *path)]
    first = cluster.entity(Caller, names[0])
    with pytest.raises(HandlerError) as caught:
        first.call.remote(names[1:]).result(10)
    innermost: BaseException | None = caught.value
    while isinstance(innermost, HandlerError):
        innermost = innermost.__cause__
    assert isinstance(innermost, CallCycle)
    assert innermost.may_have_run is False
    assert innermost.address == ("deadlines.Caller", names[-1])
    for name in set(names):
        assert cluster.entity(Caller, name).call.remote([]).result(30) == name


def test_a_diamond_is_no_cycle(cluster: Cluster) -> None:
    """A long chain of different entities is answered, and the same entity may be asked again afterwards."""
    run = uuid.uuid4().hex
    names = [f"{run}-{n}" for n in range(12)]
    first = cluster.entity(Caller, names[0])
    for _ in range(2):
        assert first.call.remote(names[1:]).result(30) == names[-1]


def test_a_message_to_itself_that_is_not_awaited_is_a_cycle_too(cluster: Cluster) -> None:
    """The chain holds the entity while it is busy, awaited or not: the message fails, its handler goes on."""
    assert cluster.entity(Caller, uuid.uuid4().hex).not_waiting.remote().result(30) == "sent"


def test_a_reentrant_entity_takes_its_chain_back_in(cluster: Cluster) -> None:
    """Two reentrant entities call each other ten deep; each sees its own depths."""
    run = uuid.uuid4().hex
    ping, pong = cluster.entity(Reentrant, f"{run}-ping"), cluster.entity(Reentrant, f"{run}-pong")
    assert ping.countdown.remote(10, f"{run}-pong").result(30) == 10
    assert ping.seen.remote().result(30) == [10, 8, 6, 4, 2, 0]
    assert pong.seen.remote().result(30) == [9, 7, 5, 3, 1]
    assert ping.countdown.remote(5, f"{run}-ping").result(30) == 5


def test_a_handler_knows_who_sent_its_message(cluster: Cluster) -> None:
    """`self.sender` is the entity that sent it, and None for a message from outside."""
    run = uuid.uuid4().hex
    asker = cluster.entity(Caller, f"{run}-asker")
    assert asker.who.remote().result(30) == ["None"]
    assert asker.ask_who.remote(f"{run}-asked").result(30) == [f"deadlines.Caller/{run}-asker"]
