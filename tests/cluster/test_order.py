"""Order, single activation, and how many messages an entity handles at a time."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cluster_app import Cluster, Entity, entity, gather, message
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


@entity(name="order.Diary", max_idle_time=None)
class Diary(Entity):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.born = uuid.uuid4().hex
        self.told: list[tuple[int, int]] = []

    @message
    def tell(self, sender: int, number: int) -> int:
        self.told.append((sender, number))
        return len(self.told)

    @message
    async def tell_slowly(self, sender: int, number: int) -> int:
        await asyncio.sleep(0)
        self.told.append((sender, number))
        await asyncio.sleep(0)
        return len(self.told)

    @message
    def read(self) -> list[tuple[int, int]]:
        return self.told

    @message
    def birth(self) -> str:
        return self.born


class Watched(Entity):
    """Notes how many of its messages are under way at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.order: list[int] = []
        self.door = asyncio.Event()

    @message
    async def pass_through(self, number: int) -> int:
        self.order.append(number)
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.inside -= 1
        return number

    @message
    async def wait_at_door(self) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == 3:
            self.door.set()
        await self.door.wait()
        self.inside -= 1
        return self.most

    @message
    def seen(self) -> tuple[int, list[int]]:
        return self.most, self.order


@entity(name="order.OneAtATime")
class OneAtATime(Watched):
    """Takes one message at a time, as entities do."""


@entity(name="order.ThreeAtATime", concurrency=3)
class ThreeAtATime(Watched):
    """Takes three."""


@entity(name="order.Sleeper")
class Sleeper(Entity):
    """Sleeps when told, and answers at once otherwise."""

    @message
    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "awake"

    @message
    def quick(self, number: int) -> int:
        return number


@entity(name="order.Relay")
class Relay(Entity):
    """Sends many messages on, from inside the cluster."""

    @message
    async def send_on(self, target: Diary, sender: int, messages: int) -> int:
        replies = [target.tell.remote(sender, number) for number in range(messages)]
        for reply in replies:
            await reply
        return messages


def test_thousands_of_messages_arrive_in_the_order_sent(cluster: Cluster, counts: Counts) -> None:
    """One sender's messages to one entity are handled in the order sent, and answered by their own replies."""
    diary = cluster.entity(Diary, f"thousands-{uuid.uuid4().hex}")
    replies = []
    for number in range(10_000):
        cluster.wait_ready(diary)
        replies.append(diary.tell.remote(0, number))
    assert [reply.result(30) for reply in replies] == list(range(1, 10_001))
    assert diary.read.remote().result(30) == [(0, number) for number in range(10_000)]
    counts.refresh()
    assert counts.of("cluster_messages_received_total", entity_type="order.Diary") == 10_001


def test_every_threads_messages_arrive_in_its_order(cluster: Cluster) -> None:
    """Eight threads send to three entities at once: each entity has all messages of each thread in order."""
    run = uuid.uuid4().hex
    diaries = [cluster.entity(Diary, f"threads-{run}-{n}") for n in range(3)]

    def send(sender: int) -> None:
        replies = []
        for number in range(400):
            for diary in diaries:
                tell = diary.tell_slowly if number % 2 else diary.tell
                replies.append(tell.remote(sender, number))
        for reply in replies:
            reply.result(30)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    for diary in diaries:
        told = diary.read.remote().result(30)
        assert len(told) == 8 * 400
        for sender in range(8):
            assert [number for who, number in told if who == sender] == list(range(400))


def test_messages_in_different_shapes_keep_their_order(cluster: Cluster) -> None:
    """Messages with a deadline of their own, keywords or plain values do not overtake each other."""
    diary = cluster.entity(Diary, f"shapes-{uuid.uuid4().hex}")
    for number in range(900):
        if number % 3 == 0:
            diary.tell.remote(0, number)
        elif number % 3 == 1:
            diary.tell.options(timeout_s=60).remote(0, number)
        else:
            diary.tell.remote(sender=0, number=number)
    assert diary.read.remote().result(30) == [(0, number) for number in range(900)]


def test_an_entitys_own_messages_arrive_in_the_order_sent(cluster: Cluster) -> None:
    """Order also holds for messages from entity to entity, on the same runner or another."""
    run = uuid.uuid4().hex
    diary = cluster.entity(Diary, f"relayed-{run}")
    relays = [cluster.entity(Relay, f"{run}-{n}") for n in range(6)]
    sent = [relay.send_on.remote(diary, n, 300) for n, relay in enumerate(relays)]
    assert [reply.result(30) for reply in sent] == [300] * 6
    told = diary.read.remote().result(30)
    assert len(told) == 6 * 300
    for sender in range(6):
        assert [number for who, number in told if who == sender] == list(range(300))


def test_an_entity_is_activated_once_however_many_threads_come_first(
    cluster: Cluster, counts: Counts
) -> None:
    """Sixteen threads that meet an entity for the first time all reach the same instance."""
    run = uuid.uuid4().hex
    start = threading.Barrier(16)

    def first(_: int) -> list[str]:
        start.wait()
        return [cluster.entity(Diary, f"once-{run}-{n}").birth.remote().result(30) for n in range(20)]

    with ThreadPoolExecutor(16) as pool:
        births = list(pool.map(first, range(16)))
    assert all(found == births[0] for found in births)
    assert len(set(births[0])) == 20
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", entity_type="order.Diary") == 20


def test_an_entity_handles_one_message_at_a_time(cluster: Cluster) -> None:
    """A handler that waits is alone in its entity until it ends, and the next ones start in order."""
    watched = cluster.entity(OneAtATime, uuid.uuid4().hex)
    replies = [watched.pass_through.remote(number) for number in range(200)]
    assert [reply.result(30) for reply in replies] == list(range(200))
    assert watched.seen.remote().result(30) == (1, list(range(200)))


def test_concurrency_lets_so_many_in_and_no_more(cluster: Cluster) -> None:
    """With concurrency=3 three handlers are under way at once, never four, and messages start in order."""
    watched = cluster.entity(ThreeAtATime, uuid.uuid4().hex)
    together = [watched.wait_at_door.remote() for _ in range(3)]
    assert [reply.result(30) for reply in together] == [3, 3, 3]
    replies = [watched.pass_through.remote(number) for number in range(200)]
    assert [reply.result(30) for reply in replies] == list(range(200))
    assert watched.seen.remote().result(30) == (3, list(range(200)))


def test_a_sleeper_does_not_delay_its_fast_neighbours(
    cluster: Cluster, let_pass: Callable[[float], None]
) -> None:
    """While some entities sleep for a second, others on every runner answer; the sleepers' own mailboxes wait."""
    run = uuid.uuid4().hex
    names = [f"{run}-{n}" for n in range(8)]
    asleep = [cluster.entity(Sleeper, f"asleep-{name}").sleep.remote(1.0) for name in names]
    behind = [cluster.entity(Sleeper, f"asleep-{name}").quick.remote(7) for name in names]
    fast = [cluster.entity(Sleeper, f"fast-{name}").quick.remote(n) for n in range(100) for name in names]
    assert [reply.result(30) for reply in fast] == [n for n in range(100) for _ in names]
    # On the stepped clock this is certain; on Ray, 800 quick replies take some ten milliseconds.
    assert not any(reply.done() for reply in (*asleep, *behind))
    let_pass(1.0)
    assert [reply.result(30) for reply in asleep] == ["awake"] * 8
    assert [reply.result(30) for reply in behind] == [7] * 8


def test_gather_keeps_the_order_of_the_replies_asked_for(cluster: Cluster) -> None:
    """`gather` gives values in the order of its arguments, whatever order they came in."""
    run = uuid.uuid4().hex
    replies = [cluster.entity(Sleeper, f"gather-{run}-{n % 10}").quick.remote(n) for n in range(100)]
    assert gather(*replies, timeout_s=30) == list(range(100))


@pytest.mark.parametrize("runners", [1, 3])
def test_order_holds_with_any_number_of_runners(runners: int) -> None:
    """One lane or several: each entity has its messages in the order sent."""
    with MemoryCluster(runners=runners) as cluster:
        diaries = [cluster.entity(Diary, str(n)) for n in range(50)]
        for number in range(100):
            for diary in diaries:
                diary.tell.remote(0, number)
        for diary in diaries:
            assert diary.read.remote().result(30) == [(0, number) for number in range(100)]
