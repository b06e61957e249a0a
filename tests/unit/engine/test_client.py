"""The sender's side alone: bounds, its end, exact counts, threads; on a clock of the test's."""

from __future__ import annotations

import threading

import pytest

from cluster_app.config import ClusterConfig
from cluster_app.exchange import RunnerUnreachable
from entities.errors import (
    Cancelled,
    HandlerError,
    MailboxFull,
    MalformedMessage,
)
from tests.unit.engine.wire import Ledger, World, one_runner, outcome

LATENCY = "cluster_message_latency_seconds"


# -- bounds


@pytest.mark.parametrize("state", ["in flight", "held for its shard", "held for its type"])
def test_one_more_than_max_in_flight_is_full_at_once_and_room_returns(state: str) -> None:
    """MailboxFull with scope lane, wherever the others wait; cancelling one makes room."""
    world = World(ClusterConfig(shards_per_group=4, max_in_flight=3), registers=state != "held for its type")
    runner = world.add_runner("one")
    runner.at_once = False
    if state == "in flight":
        world.grant("one")
    replies = [world.send("a")]
    world.settle()
    replies += [world.send("a") for _ in range(2)]
    world.settle()
    error = outcome(world.send("a"))
    assert isinstance(error, MailboxFull) and error.scope == "lane" and not error.may_have_run
    if state == "in flight":
        runner.finish()
    else:
        assert replies[0].cancel()
        world.advance(1)
    world.settle()
    assert not world.send("a").done()
    assert isinstance(outcome(world.send("a")), MailboxFull)


def test_a_frame_holds_at_most_the_configured_messages() -> None:
    """What came while two exchanges were under way leaves in frames of that size."""
    world, _ = one_runner(batch_messages=10)
    replies = [world.send("a") for _ in range(35)]
    world.settle()
    assert [outcome(reply) for reply in replies] == list(range(2, 37))
    assert world.frames == [1, 1, 10, 10, 10, 3]


def test_a_run_of_cancelled_messages_as_long_as_a_frame_holds_up_nothing() -> None:
    """The frame that would have been empty is not the end of the queue."""
    world, _ = one_runner(batch_messages=4)
    replies = [world.send("a") for _ in range(12)]
    for reply in replies[2:10]:
        assert reply.cancel()
    world.settle()
    assert [outcome(reply) for reply in replies[10:]] == [12, 13]
    assert [taken.value for taken in world.taken] == [2, 3, 12, 13]


# -- the end


def test_close_ends_everything_as_cancelled() -> None:
    """In flight, queued, held, refused: all of it, and only what had left may have run."""
    world, runner = one_runner(batch_messages=1)
    runner.at_once = False
    in_flight = [world.send("a") for _ in range(2)]
    queued = world.send("a")
    world.client.close()
    for reply in in_flight:
        error = outcome(reply)
        assert isinstance(error, Cancelled) and error.may_have_run
    error = outcome(queued)
    assert isinstance(error, Cancelled) and not error.may_have_run
    counted = world.counted()
    assert counted.value("cluster_messages_sent_total") == counted.value(LATENCY) == 4
    assert counted.value("cluster_errors_total", type="Cancelled") == 3


def test_close_ends_held_messages_too() -> None:
    """Those of a type and those to a shard that nobody serves."""
    world = World(registers=False)
    for_type = world.send("a")
    world.client.close()
    assert isinstance(outcome(for_type), Cancelled)
    world = World()
    world.tell_registered()
    for_shard = world.send("a")
    world.settle()
    world.client.close()
    assert isinstance(outcome(for_shard), Cancelled)


def test_a_message_sent_after_close_ends_at_once() -> None:
    """It must not wait for a deadline that nobody watches."""
    world, _ = one_runner()
    reply = world.send("a")
    world.settle()
    assert outcome(reply) == 2
    world.client.close()
    error = outcome(world.send("a"))
    assert isinstance(error, Cancelled) and not error.may_have_run


def test_a_closed_client_asks_nothing_more() -> None:
    """An answer that comes after close() starts no new exchange."""
    world, runner = one_runner()
    runner.at_once = False
    world.send("a")
    world.settle()
    world.client.close()
    world.requests[:] = [way for way in world.requests if not way.request.close]
    for way in list(world.requests):
        world.requests.remove(way)
        way.told(RunnerUnreachable("closed"))
    world.advance(60)
    assert not world.requests


# -- counts


def test_latency_and_counts_are_exact() -> None:
    """From `.remote()` to the settled reply, on the sender's clock; batches by their size."""
    world, runner = one_runner()
    runner.at_once = False
    before = world.counted()
    replies = [world.send("a") for _ in range(4)]
    world.settle()
    for seconds, error in ((0.25, None), (0.5, None), (1.0, HandlerError("no")), (2.0, None)):
        world.advance(seconds)
        runner.finish(error=error)
        world.settle()
    assert [reply.exception() is None for reply in replies] == [True, True, False, True]
    counted = world.counted()
    assert counted.value("cluster_messages_sent_total", entity_type="Ledger", operation="send") == 5
    fine = counted.histogram(LATENCY, entity_type="Ledger", outcome="ok")
    assert (fine.count - before.histogram(LATENCY, outcome="ok").count, fine.sum) == (3, 0.25 + 0.75 + 3.75)
    failed = counted.histogram(LATENCY, outcome="error")
    assert (failed.count, failed.sum) == (1, 1.75)
    assert counted.value("cluster_errors_total", type="HandlerError", entity_type="Ledger") == 1
    assert counted.histogram("cluster_batch_messages", direction="out").sum == 5


def test_an_argument_that_cannot_be_pickled_fails_alone_and_is_counted() -> None:
    """Sent once, failed once; its neighbours arrive."""
    world, _ = one_runner()
    good = world.send("a")
    bad = world.client.reference(Ledger, "a").put.remote(threading.Lock())
    also_good = world.send("a")
    world.settle()
    assert isinstance(outcome(bad), MalformedMessage)
    assert [outcome(good), outcome(also_good)] == [2, 3]
    counted = world.counted()
    assert counted.value("cluster_messages_sent_total") == 4 == counted.value(LATENCY)


def test_a_message_appended_while_another_thread_counts_leaves_without_a_second_message() -> None:
    """Whoever held the lock carries on what came meanwhile: nothing stays in the inbox with nobody to send it."""
    world, _ = one_runner()
    arrived, sent = threading.Event(), threading.Event()

    class Slow:
        """The recorder's lock, held by somebody for a moment."""

        def __enter__(self) -> None:
            arrived.set()
            assert sent.wait(10)

        def __exit__(self, *_: object) -> None: ...

    world.recorder.lock = Slow()  # type: ignore[assignment]  # only entered and left here
    counting = threading.Thread(target=world.client.flush)
    counting.start()
    assert arrived.wait(10)
    reply = world.send("a")
    assert not world.frames_out()
    sent.set()
    counting.join(10)
    world.settle()
    assert outcome(reply) == 2


def test_messages_of_many_threads_arrive_in_each_threads_order() -> None:
    """Threads race for the pump; none is lost, and none of one thread overtakes another of it."""
    world, _ = one_runner()
    start = threading.Barrier(4)

    def send(thread: int) -> None:
        ledger = world.client.reference(Ledger, f"t{thread}")
        start.wait()
        for number in range(300):
            ledger.put.remote(number)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.settle()
    for thread_number in range(4):
        mine = [taken.value for taken in world.taken if taken.entity_id == f"t{thread_number}"]
        assert mine == list(range(300))
    assert world.counted().value(LATENCY, outcome="ok") == 1201
