"""A broadcast reaches every living entity of a type, in its place among other messages, and every target is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cluster_app
from cluster_app import (
    BroadcastResult,
    Cluster,
    Entity,
    EntityResponse,
    MalformedMessage,
    entity,
    message,
)
from tests.conftest import Counts


@entity(max_idle_time=None, mailbox_capacity=3)
class Listener(Entity):
    """Keeps what it hears. Each test derives one of its own, so that counts are exact."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.door = asyncio.Event()

    @message
    def hear(self, what: Any = None, *, timeout_s: float = 0.0) -> int:
        self.heard.append(what if not timeout_s else (what, timeout_s))
        return len(self.heard)

    @message
    def add_to(self, what: list[Any]) -> None:
        what.append(self.address.id)
        self.heard.append(what)

    @message
    def told(self) -> list[Any]:
        return self.heard

    @message
    def refuse_if(self, last: str) -> None:
        if self.address.id[-1] == last:
            raise ValueError(self.address.id)

    @message
    async def wait(self) -> None:
        await self.door.wait()

    @message
    async def wait_if(self, last: str) -> None:
        self.heard.append("waits")
        if self.address.id[-1] == last:
            await self.door.wait()

    @message(idempotent=True)
    async def wait_safely(self) -> None:
        await self.door.wait()

    @message
    async def tell(self, who: Listener) -> int:
        return await who.hear.remote(self.address.id)


class Everybody(Listener):
    """All of them hear it."""


class Nobody(Listener):
    """None lives."""


@entity(max_idle_time=None)
class Ordered(Listener):
    """Hears broadcasts between other messages."""


class Refusing(Listener):
    """Some raise."""


class Crowded(Listener):
    """Some have a full mailbox."""


class Mistaken(Listener):
    """Broadcasts to it are wrong."""


class Named(Listener):
    """Hears of keywords."""


class Sharing(Listener):
    """Gets lists, and changes them."""


class Reporting(Listener):
    """Tells somebody else."""


class Slow(Listener):
    """Some are late."""


class Called(Listener):
    """Some are called off."""


class Awaited(Listener):
    """Its broadcasts are awaited."""


class Audience(Listener):
    """Is spoken to."""


class Speaking(Listener):
    """Broadcasts to its own kind, and to others."""

    @message
    async def speak(self, kind: str) -> BroadcastResult:
        broadcast = cluster_app.connect(namespace="tests").broadcast  # its runner's own connection
        if kind == "own":
            return await broadcast(Speaking, "hear", "from one of us")
        self.heard.append("before")
        reply = broadcast(Audience, "hear", self.entity(Speaking, self.address.id))
        return await reply


def many(cluster: Cluster, kind: type[Listener], number: int = 20) -> list[Any]:
    """Listeners that live, with ids whose last digits are evenly spread."""
    found = [cluster.entity(kind, str(index)) for index in range(number)]
    for reply in [one.hear.remote() for one in found]:
        reply.result(20)
    return found


def call_off(*replies: EntityResponse[Any]) -> None:
    """End messages whose handlers wait."""
    for reply in replies:
        assert reply.cancel()
        with pytest.raises(cluster_app.Cancelled):
            reply.result(20)


def check(counts: Counts, kind: type[Entity], *, delivered: int, received: int, **errors: int) -> None:
    """The broadcasts to a type are counted by targets, and to the unit."""
    counts.refresh()
    labels = {"entity_type": kind.__name__, "operation": "broadcast"}
    failed = sum(errors.values())
    assert counts.of("cluster_messages_sent_total", **labels) == delivered + failed
    assert counts.of("cluster_message_latency_seconds", **labels, outcome="ok") == delivered
    assert counts.of("cluster_message_latency_seconds", **labels, outcome="error") == failed
    assert counts.of("cluster_errors_total", **labels) == failed
    for reason, count in errors.items():
        assert counts.of("cluster_errors_total", **labels, type=reason) == count
    assert counts.of("cluster_messages_received_total", **labels) == received
    counts.check_invariants(kind.__name__)


def test_every_living_entity_gets_it(cluster: Cluster, counts: Counts) -> None:
    """Once each; those of other types do not, and each is counted as a message of its own."""
    everybody = many(cluster, Everybody)
    result = cluster.broadcast(Everybody, "hear", "news").result(20)
    assert result == BroadcastResult(20, 0, {})
    assert [one.told.remote().result(20) for one in everybody] == [[None, "news"]] * 20
    check(counts, Everybody, delivered=20, received=20)
    sent = {"entity_type": "Everybody", "operation": "send"}
    assert counts.of("cluster_messages_sent_total", **sent) == 40
    assert counts.of("cluster_messages_received_total", **sent) == 40
    handled = {"entity_type": "Everybody", "method": "hear", "outcome": "ok"}
    assert counts.of("cluster_handler_duration_seconds", **handled) == 40


def test_where_nobody_lives_nobody_is_started(cluster: Cluster, counts: Counts) -> None:
    """It ends at once with nothing delivered, and nothing is counted."""
    assert cluster.broadcast(Nobody, "hear", 1).result(20) == BroadcastResult(0, 0, {})
    check(counts, Nobody, delivered=0, received=0)
    assert counts.of("cluster_entity_activations_total", entity_type="Nobody") == 0


def test_it_keeps_its_place_among_other_messages(cluster: Cluster, counts: Counts) -> None:
    """What this sender sent before is heard before, what it sends after is heard after, also by who is new."""
    ordered = [cluster.entity(Ordered, str(index)) for index in range(30)]
    replies: list[EntityResponse[Any]] = []
    expected: list[list[Any]] = [[] for _ in ordered]
    for round_ in range(30):
        replies += [one.hear.remote(round_) for one in ordered[: round_ + 1]]
        replies.append(cluster.broadcast(Ordered, "hear", f"all {round_}"))
        for heard in expected[: round_ + 1]:
            heard += [round_, f"all {round_}"]
    results = [reply.result(20) for reply in replies]
    assert [one.told.remote().result(20) for one in ordered] == expected
    assert [r for r in results if isinstance(r, BroadcastResult)] == [
        BroadcastResult(round_ + 1, 0, {}) for round_ in range(30)
    ]
    check(counts, Ordered, delivered=465, received=465)


def test_who_raises_is_counted_as_failed(cluster: Cluster, counts: Counts) -> None:
    """The others get it all the same."""
    many(cluster, Refusing)
    result = cluster.broadcast(Refusing, "refuse_if", "3").result(20)
    assert (result.delivered, result.failed, result.errors) == (18, 2, {"HandlerError": 2})
    check(counts, Refusing, delivered=18, received=20, HandlerError=2)


def test_a_full_mailbox_is_counted_as_failed(cluster: Cluster, counts: Counts) -> None:
    """Who has no room is not waited for."""
    crowded = many(cluster, Crowded)
    held = [crowded[7].wait.remote() for _ in range(4)]
    result = cluster.broadcast(Crowded, "hear", 1).result(20)
    assert (result.delivered, result.failed, result.errors) == (19, 1, {"MailboxFull": 1})
    call_off(*held)
    check(counts, Crowded, delivered=19, received=19, MailboxFull=1)


def test_what_is_wrong_with_all_of_it_ends_the_reply(cluster: Cluster, counts: Counts) -> None:
    """An undeclared method, arguments that do not fit or cannot be pickled: one error each, and nobody hears."""
    mistaken = many(cluster, Mistaken, 5)
    wrong = [
        cluster.broadcast(Mistaken, "door"),
        cluster.broadcast(Mistaken, "hear", 1, 2, 3),
        cluster.broadcast(Mistaken, "hear", unknown=1),
        cluster.broadcast(Mistaken, "hear", threading.Lock()),
    ]
    for reply in wrong:
        assert reply.done()
        with pytest.raises(MalformedMessage, match=r"Mistaken/\*\."):
            reply.result()
    with pytest.raises(TypeError, match="not an entity class"):
        cluster.broadcast(int, "hear")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="name of a message"):
        cluster.broadcast(Mistaken, Mistaken.hear)  # type: ignore[arg-type]  # the mistake
    assert [one.told.remote().result(20) for one in mistaken] == [[None]] * 5
    check(counts, Mistaken, delivered=0, received=0, MalformedMessage=4)


def test_arguments_may_have_any_name(cluster: Cluster, counts: Counts) -> None:
    """What a broadcast can be told itself is told by `options`, so that it is in no argument's way."""
    named = many(cluster, Named, 5)
    send = cluster.broadcast.options(timeout_s=20)
    assert send(Named, "hear", what="x", timeout_s=7.0).result(20) == BroadcastResult(5, 0, {})
    assert [one.told.remote().result(20) for one in named] == [[None, ("x", 7.0)]] * 5
    with pytest.raises(TypeError, match="timeout_s"):
        cluster.broadcast.options(timeout_s="soon")  # type: ignore[arg-type]  # the mistake
    check(counts, Named, delivered=5, received=5)


def test_each_gets_arguments_of_its_own(cluster: Cluster) -> None:
    """What one does to a list, another does not see."""
    sharing = many(cluster, Sharing, 40)
    sent = ["sent"]
    reply = cluster.broadcast(Sharing, "add_to", sent)
    sent.append("later")
    assert reply.result(20) == BroadcastResult(40, 0, {})
    told = [one.told.remote().result(20) for one in sharing]
    assert told == [[None, ["sent", str(index)]] for index in range(40)]


def test_references_travel_in_it(cluster: Cluster) -> None:
    """Each can send to whom it is told of."""
    many(cluster, Reporting, 3)
    reporter = cluster.entity(Named, "reporter")
    reporter.hear.remote().result(20)
    assert cluster.broadcast(Reporting, "tell", reporter).result(20) == BroadcastResult(3, 0, {})
    assert sorted(reporter.told.remote().result(20)[1:]) == ["0", "1", "2"]


def test_at_its_deadline_it_says_who_was_late(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """Those who were in time are delivered; who runs on and who waits behind a running one has timed out."""
    slow = many(cluster, Slow)
    busy = slow[5].wait.remote()
    reply = cluster.broadcast.options(timeout_s=0.3)(Slow, "wait_if", "3")
    let_pass(0.4)
    result = reply.result(20)
    assert (result.delivered, result.failed, result.errors) == (17, 3, {"Timeout": 3})
    call_off(busy)
    check(counts, Slow, delivered=17, received=20, Timeout=3)
    assert slow[5].told.remote().result(20) == [None]  # it never ran there


def test_a_cancelled_one_is_taken_back(cluster: Cluster, counts: Counts) -> None:
    """Where it had not started it never runs, where it waits it ends; both have failed."""
    called = many(cluster, Called)
    busy = called[5].wait.remote()
    reply = cluster.broadcast(Called, "wait_if", "3")
    assert called[19].told.remote().result(20) == [None, "waits"]
    assert not reply.done()
    assert reply.cancel()
    result = reply.result(20)
    assert (result.delivered, result.failed, result.errors) == (17, 3, {"Cancelled": 3})
    assert not reply.cancel()
    call_off(busy)
    assert called[5].told.remote().result(20) == [None]
    check(counts, Called, delivered=17, received=20, Cancelled=3)


def test_its_reply_is_like_any_other(cluster: Cluster) -> None:
    """Awaited, gathered, called back, and with a time-out of its own that it outlives."""
    many(cluster, Awaited, 4)

    async def awaited() -> BroadcastResult:
        return await cluster.broadcast(Awaited, "hear", 1)

    assert asyncio.run(awaited()) == BroadcastResult(4, 0, {})
    two = cluster_app.gather(*[cluster.broadcast(Awaited, "hear", n) for n in range(2)], timeout_s=20)
    assert two == [BroadcastResult(4, 0, {})] * 2
    heard = threading.Event()
    reply = cluster.broadcast(Awaited, "wait")
    reply.add_done_callback(lambda ended: heard.set())
    with pytest.raises(TimeoutError):
        reply.result(0.05)
    assert not reply.done()
    assert str(reply) == "<EntityResponse Awaited/*.wait pending>"
    assert reply.cancel()
    assert heard.wait(20)
    assert reply.result().errors == {"Cancelled": 4}


def test_an_entity_can_broadcast(cluster: Cluster, counts: Counts) -> None:
    """To others on all runners; to its own kind all but itself, which is busy with the very chain."""
    many(cluster, Audience, 12)
    many(cluster, Speaking, 6)
    speaker = cluster.entity(Speaking, "0")
    assert speaker.speak.remote("others").result(20) == BroadcastResult(12, 0, {})
    check(counts, Audience, delivered=12, received=12)
    assert cluster.entity(Audience, "3").told.remote().result(20) == [None, speaker]
    assert speaker.speak.remote("own").result(20) == BroadcastResult(5, 1, {"CallCycle": 1})
    check(counts, Speaking, delivered=5, received=5, CallCycle=1)
