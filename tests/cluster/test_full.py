"""Bounds: a full mailbox, a full lane, and a sender that waits for room."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster_app import Cluster, ClusterConfig, Entity, MailboxFull, entity, message
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


@entity(name="full.Narrow", mailbox_capacity=10, concurrency=2)
class Narrow(Entity):
    """Two places inside, ten in the mailbox; its visitors stay until the door is opened for them."""

    def __init__(self) -> None:
        self.door = asyncio.Event()
        self.visits: list[int] = []

    @message
    async def enter(self, number: int) -> int:
        self.visits.append(number)
        await self.door.wait()
        return number

    @message
    def see(self) -> list[int]:
        return self.visits


@entity(name="full.Hall", mailbox_capacity=10)
class Hall(Entity):
    """Ten may wait for one who sleeps."""

    def __init__(self) -> None:
        self.handled = 0

    @message
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    def count(self) -> int:
        self.handled += 1
        return self.handled


@entity(name="full.Store", mailbox_capacity=20)
class Store(Entity):
    """Takes what it is given and keeps none of it."""

    def __init__(self) -> None:
        self.bytes = 0

    @message
    async def put(self, content: bytes) -> int:
        await asyncio.sleep(0)
        self.bytes += len(content)
        return self.bytes


def refusals(replies: list[object]) -> list[MailboxFull]:
    """The errors among ended replies, each of which must be MailboxFull."""
    found = []
    for reply in replies:
        error = reply.exception()  # type: ignore[attr-defined]  # a reply
        if error is not None:
            assert isinstance(error, MailboxFull)
            found.append(error)
    return found


def test_a_full_mailbox_refuses_at_once_and_leaves_the_rest_alone(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """One is handled, ten wait, five more end as MailboxFull while the first still sleeps; then all is well."""
    run = uuid.uuid4().hex
    hall, other = cluster.entity(Hall, f"full-{run}"), cluster.entity(Hall, f"other-{run}")
    asleep = hall.sleep.remote(0.6)
    replies = [hall.count.remote() for _ in range(15)]
    for refused in replies[10:]:
        with pytest.raises(MailboxFull) as caught:
            refused.result(30)
        assert caught.value.scope == "mailbox"
        assert caught.value.address == ("full.Hall", f"full-{run}")
        assert caught.value.may_have_run is False
        assert caught.value.retryable is True
        assert "10 messages" in str(caught.value)
    assert other.count.remote().result(30) == 1
    assert not asleep.done()
    assert not any(reply.done() for reply in replies[:10])
    let_pass(0.6)
    assert asleep.result(30) is None
    assert [reply.result(30) for reply in replies[:10]] == list(range(1, 11))
    assert hall.count.remote().result(30) == 11
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="full.Hall") == 18
    assert counts.of("cluster_messages_received_total", entity_type="full.Hall") == 13
    assert counts.of("cluster_errors_total", entity_type="full.Hall", type="MailboxFull") == 5
    counts.check_invariants("full.Hall")


def test_the_mailbox_counts_what_waits_not_what_is_handled(cluster: Cluster) -> None:
    """With concurrency=2 two are inside and ten wait before one is refused; cancelling one makes room for one."""
    narrow = cluster.entity(Narrow, uuid.uuid4().hex)
    inside = [narrow.enter.remote(n) for n in range(2)]
    waiting = [narrow.enter.remote(n) for n in range(2, 12)]
    with pytest.raises(MailboxFull):
        narrow.enter.remote(12).result(30)
    assert waiting[3].cancel()
    waiting[3].add_done_callback(lambda _: None)
    with pytest.raises(Exception, match="cancelled"):
        waiting[3].result(30)
    late = narrow.enter.remote(13)
    with pytest.raises(MailboxFull):
        narrow.enter.remote(14).result(30)
    # First those that wait, to the end: else one of them would take the place of one inside.
    for replies in ([*waiting[:3], *waiting[4:], late], inside):
        for reply in replies:
            reply.cancel()
        for reply in replies:
            with pytest.raises(Exception, match="cancelled"):
                reply.result(30)
    assert narrow.see.remote().result(30) == [0, 1]


@pytest.fixture
def tight() -> Iterator[MemoryCluster]:
    """A cluster whose lanes take fifty messages."""
    with MemoryCluster(runners=1, config=ClusterConfig(max_in_flight=50)) as cluster:
        yield cluster


def test_a_full_lane_refuses_at_once_with_its_scope(tight: MemoryCluster) -> None:
    """The fifty-first unanswered message on a lane ends as MailboxFull of the lane, whomever it is for."""
    tight.register(Hall)
    ids = [f"h{n}" for n in range(50)]
    assert tight.entity(Hall, "warm").count.remote().result(30) == 1
    asleep = [tight.entity(Hall, name).sleep.remote(1.0) for name in ids]
    refused = [tight.entity(Hall, name).count.remote() for name in ("h0", "elsewhere")]
    for reply in refused:
        with pytest.raises(MailboxFull) as caught:
            reply.result(30)
        assert caught.value.scope == "lane"
        assert "50 messages" in str(caught.value)
    tight.clock.advance(1.0)
    assert [reply.result(30) for reply in asleep] == [None] * 50
    assert tight.entity(Hall, "elsewhere").count.remote().result(30) == 1
    metrics = tight.metrics()
    assert metrics.value("cluster_messages_sent_total", entity_type="full.Hall") == 54
    assert metrics.value("cluster_messages_received_total", entity_type="full.Hall") == 52
    assert metrics.value("cluster_errors_total", entity_type="full.Hall", type="MailboxFull") == 2


def test_a_lane_is_full_too_while_nobody_serves_its_shard(tight: MemoryCluster) -> None:
    """What is held because its type is not registered yet counts as well: memory stays bounded."""
    replies = [tight.entity(Hall, "early").sleep.remote(0.0) for _ in range(200)]
    tight.clock.settle()
    tight.clock.advance(1.0)
    ended = [reply.exception() for reply in replies if reply.done()]
    assert len(ended) == 200
    full = [error for error in ended if isinstance(error, MailboxFull)]
    # One sleeps and ten wait at most; the lane or the mailbox refuses the rest, and never silently.
    assert len(full) == sum(error is not None for error in ended)
    assert 150 <= len(full) <= 189


def test_wait_ready_never_refuses_itself_at_a_mailbox(cluster: Cluster, counts: Counts) -> None:
    """A sender that waits for room offers a hundred times what the mailbox holds, and not one is refused."""
    store = cluster.entity(Store, uuid.uuid4().hex)
    replies = []
    for _ in range(2000):
        cluster.wait_ready(store)
        replies.append(store.put.remote(b"x"))
    assert [reply.result(30) for reply in replies] == list(range(1, 2001))
    counts.refresh()
    assert counts.of("cluster_errors_total", entity_type="full.Store") == 0


def test_ready_never_refuses_itself_at_a_mailbox(cluster: Cluster) -> None:
    """`await ready()` does for asyncio what `wait_ready()` does for threads, for several entities at once."""

    async def feed(name: str) -> int:
        store = cluster.entity(Store, name)
        replies = []
        for _ in range(300):
            await cluster.ready(store)
            replies.append(store.put.remote(b"xy"))
        return max([await reply for reply in replies])

    async def feed_all() -> list[int]:
        run = uuid.uuid4().hex
        return await asyncio.gather(*(feed(f"{run}-{n}") for n in range(5)))

    assert asyncio.run(feed_all()) == [600] * 5


def test_wait_ready_never_refuses_itself_at_a_lane() -> None:
    """The same for the lane's bound: ten thousand messages through a lane of fifty."""
    with MemoryCluster(runners=1, config=ClusterConfig(max_in_flight=50)) as cluster:
        halls = [cluster.entity(Hall, str(n)) for n in range(100)]
        cluster.register(Hall)
        replies = []
        for number in range(10_000):
            hall = halls[number % 100]
            cluster.wait_ready(hall)
            replies.append(hall.count.remote())
        assert [reply.result(30) for reply in replies] == [1 + number // 100 for number in range(10_000)]


@pytest.mark.slow
def test_memory_stays_bounded_while_far_more_is_offered(cluster: Cluster) -> None:
    """400 MB offered to a mailbox that holds 2 MB are refused or handled, and nobody keeps them."""
    store = cluster.entity(Store, uuid.uuid4().hex)
    store.put.remote(b"").result(30)
    pids = {os.getpid(), *(runner.pid for runner in cluster.status().runners)}
    handled = 0
    after: dict[int, list[float]] = {pid: [] for pid in pids}
    for _ in range(20):
        replies = [store.put.remote(bytes(100_000)) for _ in range(200)]
        for reply in replies:
            try:
                reply.result(30)
                handled += 1
            except MailboxFull as full:
                assert full.scope == "mailbox"
        for pid in pids:
            after[pid].append(own_memory_mb(pid))
    assert handled >= 20 * 20
    assert store.put.remote(b"").result(30) == handled * 100_000
    # Two waves show what one takes; eighteen more, 360 MB, take no more than two of them might.
    for pid in pids:
        assert max(after[pid]) - max(after[pid][:2]) < 40, after


def own_memory_mb(pid: int) -> float:
    """The memory in use that is a process's own, in MB: without what it shares with Ray's object store."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no RssAnon")
