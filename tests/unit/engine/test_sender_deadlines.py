"""A sender's messages end in time, wherever they are just then; on a clock of the test's."""

from __future__ import annotations

from typing import Any

from entities.errors import (
    EntityNotAssignedToRunner,
    Timeout,
)
from tests.unit.engine.wire import World, one_runner, outcome, two_runners

LATENCY = "cluster_message_latency_seconds"


def test_a_message_ends_at_the_default_timeout_after_it_was_sent() -> None:
    """Thirty seconds, to the tick: one that was in flight may have run."""
    world, runner = one_runner()
    runner.at_once = False
    reply = world.send("a")
    world.settle()
    world.advance(29.999)
    assert not reply.done()
    world.advance(0.001)
    error = outcome(reply)
    assert isinstance(error, Timeout) and error.may_have_run


def test_what_finds_no_room_on_its_lane_ends_at_the_default_timeout_too() -> None:
    """Both exchanges of a lane hang, and their messages have ended: what is sent then is in no frame, and ends."""
    world, runner = one_runner()
    runner.at_once = False
    hung = [world.send("a"), world.send("b")]
    world.advance(31)
    assert [type(outcome(reply)) for reply in hung] == [Timeout, Timeout]
    late = world.send("c")
    world.advance(29.999)
    assert not late.done()
    world.advance(0.001)
    error = outcome(late)
    assert isinstance(error, EntityNotAssignedToRunner | Timeout) and not error.may_have_run


def test_a_message_with_a_long_timeout_that_cannot_leave_keeps_nobody_busy() -> None:
    """It is older than the default allows, and lives on: the sender looks at what waits now and then."""
    world, runner = one_runner()
    runner.at_once = False
    for entity_id in "ab":
        world.send(entity_id, timeout_s=100.0)
    long, usual = world.send("c", timeout_s=100.0), world.send("c")
    world.advance(29.0)
    looks = 0
    tend = world.client._expiry.deadlines

    def counted(*args: Any) -> None:
        nonlocal looks
        looks += 1
        assert looks < 1000
        tend(*args)

    world.client._expiry.deadlines = counted  # type: ignore[assignment, method-assign]
    world.advance(31.0)
    assert usual.done() and not long.done()
    assert looks < 200
    world.advance(40.0)
    assert isinstance(outcome(long), EntityNotAssignedToRunner | Timeout)


def test_a_message_with_a_timeout_of_its_own_ends_then() -> None:
    """And its neighbours without one do not."""
    world, runner = one_runner()
    runner.at_once = False
    short, usual = world.send("a", timeout_s=0.5), world.send("a")
    world.settle()
    world.advance(0.499)
    assert not short.done()
    world.advance(0.001)
    assert isinstance(outcome(short), Timeout) and not usual.done()


def test_a_late_answer_changes_nothing() -> None:
    """The reply that ended at its deadline stays so and is counted once."""
    world, runner = one_runner()
    runner.at_once = False
    reply = world.send("a", timeout_s=1.0)
    world.settle()
    world.advance(1.0)
    runner.finish()
    world.settle()
    assert isinstance(outcome(reply), Timeout)
    assert world.counted().value(LATENCY) == 2
    assert world.counted().value("cluster_errors_total", type="Timeout") == 1


def test_a_message_that_is_over_when_it_is_sent_never_leaves() -> None:
    """A timeout of nothing ends as Timeout that has not run."""
    world, runner = one_runner()
    error = outcome(world.send("a", timeout_s=0.0))
    assert isinstance(error, Timeout) and not error.may_have_run
    world.settle()
    assert runner.lanes and not world.taken


def test_time_held_for_a_shard_counts_towards_the_default_timeout() -> None:
    """Sent at 0, on its way from 20 on: over at 30, not at 50."""
    world = World()
    runner = world.add_runner("one")
    runner.at_once = False
    reply = world.send("a")
    world.settle()
    world.advance(20)
    world.grant("one")
    world.settle()
    assert [taken.value for taken in world.taken] == [1]
    world.advance(9.999)
    assert not reply.done()
    world.advance(0.001)
    assert isinstance(outcome(reply), Timeout)


def test_one_that_was_held_ends_in_time_behind_younger_messages_on_its_lane() -> None:
    """Age on a lane is not the order of sending once a message was held elsewhere."""
    world, _ = one_runner()
    two = world.add_runner("two")
    two.at_once = False
    shards = {world.shard_of(f"e{n}"): f"e{n}" for n in range(50)}
    (held_shard, held_id), (other_shard, other_id) = list(shards.items())[:2]
    world.runners["one"].give_up(held_shard)
    world.grant("two", other_shard)
    world.runners["one"].give_up(other_shard)
    held = world.send(held_id)
    world.settle()
    world.advance(20)
    young = world.send(other_id)
    world.settle()
    world.grant("two", held_shard)
    world.advance(1)
    world.settle()
    world.advance(2)
    world.settle()
    assert {taken.entity_id for taken in world.taken} == {held_id, other_id}
    world.advance(6.999)
    assert not held.done()
    world.advance(0.001)
    assert isinstance(outcome(held), Timeout) and not young.done()


def test_the_timeout_of_a_message_that_moved_on_takes_no_other_with_it() -> None:
    """It was the first of its old lane; the first of the new lane, another message, is still answered."""
    world, entity_id = two_runners()
    one, two = world.runners["one"], world.runners["two"]
    one.at_once = two.at_once = False
    old = world.send(entity_id, timeout_s=5.0)
    world.settle()
    one.serving.clear()
    world.grant("two")
    new = [world.send(entity_id) for _ in range(3)]
    world.settle()
    world.advance(1)
    world.settle()
    assert [delivery.args[0] for delivery in two.opened] == [3, 4, 5]
    world.advance(4)
    assert isinstance(outcome(old), Timeout)
    for _ in range(3):
        two.finish()
    world.settle()
    assert [outcome(reply) for reply in new] == [3, 4, 5]
