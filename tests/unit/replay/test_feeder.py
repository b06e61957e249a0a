"""Messages out, replies in: counted, bounded, and never refused by the feeder's own doing."""

from __future__ import annotations

import pytest

from cluster_app.replay.feeder import Feeder
from entities.catalog import Counter
from tests.unit.replay.fake_cluster import FakeCluster, FakeReference
from tests.unit.replay.fleet import Car


def test_every_message_is_counted_once_and_every_reply_too() -> None:
    """After `finish`, as many replies as messages, and no errors."""
    fake = FakeCluster()
    feeder = Feeder(fake, in_flight=10)
    route = feeder.route(Counter, "increment")
    for number in range(1_000):
        route.send(f"c{number % 7}", 1)
    feeder.finish()
    assert (feeder.sent, feeder.settled, dict(feeder.errors)) == (1_000, 1_000, {})
    assert sum(counter.value for counter in fake.live.values()) == 1_000


def test_messages_to_one_entity_keep_their_order() -> None:
    """The order of the rows is the order of the messages."""
    fake = FakeCluster()
    feeder = Feeder(fake, in_flight=3)
    route = feeder.route(Counter, "increment")
    for number in range(50):
        route.send(f"c{number % 2}", number)
    feeder.finish()
    assert [args[0] for _, entity_id, _, args, _ in fake.log if entity_id == "c0"] == list(range(0, 50, 2))


def test_no_more_is_in_flight_than_allowed() -> None:
    """The window bounds memory, however long the file."""
    fake = FakeCluster()
    feeder = Feeder(fake, in_flight=8)
    route = feeder.route(Counter, "increment")
    for _ in range(100):
        route.send("c", 1)
    assert fake.most_open == 8
    feeder.finish()


def test_a_small_mailbox_refuses_nothing() -> None:
    """The feeder waits for room instead of finding out that there is none."""
    fake = FakeCluster(mailbox_capacity=4)
    feeder = Feeder(fake, in_flight=1_000)
    route = feeder.route(Counter, "increment")
    for _ in range(500):
        route.send("hot", 1)
    feeder.finish()
    assert (feeder.settled, dict(feeder.errors)) == (500, {})


def test_without_waiting_for_room_the_small_mailbox_would_refuse() -> None:
    """So it is the waiting that keeps messages from being refused, and not the fake's patience."""

    class Impatient(FakeCluster):
        def wait_ready(self, reference: FakeReference, /) -> None:
            pass

    feeder = Feeder(Impatient(mailbox_capacity=4), in_flight=1_000)
    route = feeder.route(Counter, "increment")
    for _ in range(500):
        route.send("hot", 1)
    feeder.finish()
    assert feeder.settled == 500
    assert feeder.errors["MailboxFull"] > 0


def test_errors_are_counted_by_reason() -> None:
    """A handler that raises is an error of its own message and of no other."""
    feeder = Feeder(FakeCluster(), in_flight=5)
    route = feeder.route(Car, "drive")
    for number in range(20):
        route.send("car", km=-1.0 if number % 4 == 0 else 1.0)
    route.send("car", colour="red")
    feeder.finish()
    assert (feeder.settled, dict(feeder.errors)) == (21, {"HandlerError": 5, "MalformedMessage": 1})


def test_a_stuck_entity_does_not_hold_up_the_others() -> None:
    """Its messages keep their places in the window; all others go on through the rest of it."""
    fake = FakeCluster(stuck=frozenset({"stuck"}))
    feeder = Feeder(fake, in_flight=20)
    route = feeder.route(Counter, "increment")
    for _ in range(5):
        route.send("stuck", 1)
    for _ in range(500):
        route.send("free", 1)
    assert (Counter, "stuck") not in fake.live
    assert feeder.settled >= 480
    feeder.finish()
    assert feeder.settled == 505


def test_a_parameter_may_have_any_name() -> None:
    """Also one that the feeder uses itself."""
    fake = FakeCluster()
    feeder = Feeder(fake)
    feeder.route(Car, "park").send("car", entity_id="e", self_parking=True)
    feeder.finish()
    assert dict(feeder.errors) == {}
    assert fake.live[Car, "car"].trips == [("e", True, 0)]


def test_ids_are_remembered_only_when_asked() -> None:
    """A million ids are not kept for nothing."""
    plain, remembering = Feeder(FakeCluster()), Feeder(FakeCluster(), remember=True)
    for feeder in (plain, remembering):
        feeder.route(Counter, "increment").send("a", 1)
        feeder.route(Counter, "read").send("b")
        feeder.finish()
    assert (plain.fed, remembering.fed) == ({}, {Counter: {"a", "b"}})


def test_references_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ids than are kept are still all served."""
    monkeypatch.setattr("cluster_app.replay.feeder.REFERENCES", 3)
    fake = FakeCluster()
    feeder = Feeder(fake, remember=True)
    route = feeder.route(Counter, "increment")
    for number in range(20):
        route.send(f"c{number % 10}", 1)
    feeder.finish()
    assert {entity_id: counter.value for (_, entity_id), counter in fake.live.items()} == {
        f"c{number}": 2 for number in range(10)
    }
    assert len(feeder.fed[Counter]) == 10


def test_the_deadline_goes_with_every_message() -> None:
    """Without one, the cluster's default holds."""
    fake = FakeCluster()
    Feeder(fake).route(Counter, "increment").send("a", 1)
    Feeder(fake, timeout_s=5.0).route(Counter, "increment").send("a", 1)
    assert fake.timeouts == {None, 5.0}


def test_an_id_that_is_none_is_not_counted_as_sent() -> None:
    """It raises, and the feeder still finishes."""
    feeder = Feeder(FakeCluster())
    with pytest.raises(ValueError, match="empty"):
        feeder.route(Counter, "increment").send("", 1)
    feeder.finish()
    assert (feeder.sent, feeder.settled) == (0, 0)
