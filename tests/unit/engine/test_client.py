"""The sender's side alone: deadlines, held messages, refusals, lost runners, exact counts; on a clock of the test's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cluster_app.code import TypeConflict
from cluster_app.config import ClusterConfig
from cluster_app.exchange import RunnerUnreachable
from entities.declaration import define
from entities.errors import (
    Cancelled,
    EntityNotAssignedToRunner,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    RunnerNotRegistered,
    RunnerUnavailable,
    Timeout,
)
from tests.unit.engine.wire import Ledger, Taken, World, one_runner, outcome

LATENCY = "cluster_message_latency_seconds"


def two_runners() -> tuple[World, str]:
    """A world in which "one" serves everything and "two" nothing yet; and an entity's id."""
    world, _ = one_runner()
    world.add_runner("two")
    return world, "a"


# -- deadlines


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


# -- held messages


def test_messages_of_a_type_that_nobody_registers_end_as_not_registered() -> None:
    """They are held, in order, until their time is over."""
    world = World(registers=False)
    world.add_runner("one")
    world.grant("one")
    short, usual = world.send("a", timeout_s=1.0), world.send("a")
    world.settle()
    world.advance(1)
    error = outcome(short)
    assert isinstance(error, RunnerNotRegistered) and not error.may_have_run
    world.advance(28.9)
    assert not usual.done()
    world.advance(0.1)
    assert isinstance(outcome(usual), RunnerNotRegistered)
    assert not world.taken


def test_messages_held_for_their_type_leave_in_order_once_it_is_registered() -> None:
    """Those sent while the answer was on its way come after them; each is counted once."""
    world = World(registers=False)
    world.add_runner("one")
    world.grant("one")
    replies = [world.send("a") for _ in range(5)]
    world.tell_routes()
    world.tell_registered()
    replies += [world.send("a") for _ in range(3)]
    world.settle()
    assert [outcome(reply) for reply in replies] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [taken.value for taken in world.taken] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert world.counted().value("cluster_messages_sent_total") == 8


def test_an_unanswered_registration_is_asked_again() -> None:
    """A coordinator that is away for a moment costs no message."""
    world = World(registers=False)
    world.add_runner("one")
    world.grant("one")
    reply = world.send("a")
    world.tell_registered(ConnectionError("nobody"))
    assert not world.registrations
    world.advance(0.2)
    assert len(world.registrations) == 1
    world.tell_registered()
    world.settle()
    assert outcome(reply) == 1


@pytest.mark.parametrize("sent", ["before", "after"])
def test_messages_of_code_that_was_replaced_meanwhile_are_asked_for_again(sent: str) -> None:
    """A notebook's cell is run anew while no coordinator answers: what the old class has sent waits, and ends."""
    world = World(registers=False)
    world.add_runner("one")
    world.grant("one")
    old = world.client.reference(Ledger, "a").put
    waiting = [old.remote(1)] if sent == "before" else []
    world.client.hurry()
    anew = type("Ledger", (Ledger,), {"more": 1})
    world.client.reference(anew, "a").put  # noqa: B018  # looked up, its code is known
    if sent == "after":
        waiting = [old.remote(1)]
        world.client.hurry()
    world.tell_registered(ConnectionError("nobody"))
    world.advance(1.0)
    assert world.tell_registered(TypeConflict("Ledger is registered with other code"))
    (reply,) = waiting
    assert isinstance(outcome(reply), RunnerNotRegistered)
    assert list(world.client.types) == [world.client.types.known(define(anew))]


def test_close_ends_what_waits_for_code_that_was_replaced() -> None:
    """Nobody would ever ask for it again."""
    world = World(registers=False)
    reply = world.client.reference(Ledger, "a").put.remote(1)
    world.client.hurry()
    world.client.reference(type("Ledger", (Ledger,), {"more": 1}), "a").put  # noqa: B018  # as above
    world.client.close()
    assert isinstance(outcome(reply), Cancelled)


def test_a_refused_type_ends_its_messages_with_the_reason() -> None:
    """Waiting would not help: those held and those to come end at once and say why."""
    world = World(registers=False)
    held = world.send("a")
    refusal = TypeConflict("Ledger is registered with other code")
    world.tell_registered(refusal)
    later = world.send("a")
    for reply in (held, later):
        error = outcome(reply)
        assert isinstance(error, RunnerNotRegistered)
        assert error.__cause__ is refusal and not error.retryable


def test_messages_to_a_shard_that_nobody_serves_end_as_not_registered() -> None:
    """No runner was ever known for it."""
    world = World()
    reply = world.send("a")
    world.settle()
    world.advance(30)
    error = outcome(reply)
    assert isinstance(error, RunnerNotRegistered) and not error.may_have_run


def test_messages_that_a_runner_keeps_refusing_end_as_not_assigned() -> None:
    """The routes say "one", and "one" does not serve the shard."""
    world, runner = one_runner()
    runner.serving.clear()
    reply = world.send("a")
    for _ in range(40):
        world.settle()
        world.advance(1)
    error = outcome(reply)
    assert isinstance(error, EntityNotAssignedToRunner) and not error.may_have_run
    assert error.shard == str(world.shard_of("a"))
    assert world.counted().value("cluster_errors_total", type="EntityNotAssignedToRunner") == 1


def test_a_refused_message_ends_in_time_although_its_runner_has_fallen_silent() -> None:
    """Another frame is still unanswered, so it cannot be sent elsewhere; its deadline holds all the same."""
    world, runner = one_runner()
    runner.serving.clear()
    refused = world.send("a")
    waiting = world.send("a")
    world.arrive()
    world.return_answer()
    for _ in range(4):
        world.advance(8)
    assert isinstance(outcome(refused), EntityNotAssignedToRunner)
    assert isinstance(outcome(waiting), Timeout)


def test_a_cancelled_held_message_never_leaves() -> None:
    """Held for its type or for its shard: it ends at once as Cancelled that has not run."""
    world = World(registers=False)
    world.add_runner("one")
    first, kept = world.send("a"), world.send("a")
    assert first.cancel()
    world.tell_registered()
    second, last = world.send("a"), world.send("a")
    assert second.cancel()
    world.grant("one")
    world.settle()
    for reply in (first, second):
        error = outcome(reply)
        assert isinstance(error, Cancelled) and not error.may_have_run
    assert [outcome(kept), outcome(last)] == [2, 4]
    assert [taken.value for taken in world.taken] == [2, 4]


def test_cancelling_asks_the_runner_that_has_the_message() -> None:
    """Its shard's messages go elsewhere by now; the runner of the same number there is not asked."""
    world, entity_id = two_runners()
    one, two = world.runners["one"], world.runners["two"]
    one.at_once = two.at_once = False
    old = world.send(entity_id)
    world.settle()
    one.serving.clear()
    world.grant("two")
    world.send(entity_id)
    world.settle()
    world.advance(1)
    world.settle()
    assert old.cancel()
    world.settle()
    assert world.cancelled == [2]


@pytest.mark.parametrize("name", ["put", "look"])
def test_what_was_cancelled_is_not_sent_again_when_its_runner_is_lost(name: str) -> None:
    """It ends as cancelled: it may have run there. What came after it and was not cancelled goes on elsewhere."""
    world, entity_id = two_runners()
    one = world.runners["one"]
    one.at_once = False
    unwanted, kept = world.send(entity_id, name=name), world.send(entity_id, name="look")
    world.settle()
    assert unwanted.cancel()
    one.alive = False
    world.grant("two")
    world.settle()
    world.advance(11)  # until an exchange meets the dead runner
    world.settle()
    error = outcome(unwanted)
    assert isinstance(error, Cancelled) and error.may_have_run
    assert outcome(kept) == 3
    assert [tuple(taken) for taken in world.taken] == [
        ("one", entity_id, 2),
        ("one", entity_id, 3),
        ("two", entity_id, 3),
    ]


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_cancelled_is_not_sent_again_when_it_comes_back(taken: bool) -> None:
    """Its shard has left before it came, or before it started: it ends as cancelled, and has not run."""
    world, entity_id = two_runners()
    one = world.runners["one"]
    one.at_once = False
    unwanted, later = world.send(entity_id), world.send(entity_id)
    if taken:
        world.settle()
    assert unwanted.cancel()
    one.serving.clear()
    one.give_up(world.shard_of(entity_id))
    world.grant("two")
    world.settle()
    world.advance(1)
    world.settle()
    error = outcome(unwanted)
    assert isinstance(error, Cancelled) and not error.may_have_run
    assert outcome(later) == 3
    assert world.taken == [Taken("two", entity_id, 3)]


def test_the_reply_of_a_cancelled_message_that_was_there_says_so() -> None:
    """cancel() is False once the reply is there, and changes nothing."""
    world, _ = one_runner()
    reply = world.send("a")
    world.settle()
    assert not reply.cancel()
    assert outcome(reply) == 2


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


# -- exchanges that fail


def test_a_lost_request_is_asked_again_of_the_same_runner() -> None:
    """It had not arrived: the message runs once and its reply comes."""
    world, _ = one_runner()
    reply = world.send("a")
    world.lose(world.requests, world.frames_out()[0])
    assert not world.frames_out()
    world.advance(0.05)
    world.settle()
    assert outcome(reply) == 2 and world.ran == [2]


def test_a_lost_answer_is_told_again() -> None:
    """The message had run: it does not run again."""
    world, _ = one_runner()
    reply = world.send("a")
    world.arrive()
    world.lose(world.answers)
    world.advance(0.05)
    world.settle()
    assert outcome(reply) == 2 and world.ran == [2]


def test_a_cancellation_that_was_lost_is_sent_again() -> None:
    """With the exchange that asks what became of the others."""
    world, runner = one_runner()
    runner.at_once = False
    reply = world.send("a")
    world.settle()
    assert reply.cancel()
    cancelling = next(n for n, way in enumerate(world.requests) if way.request.cancel)
    world.lose(world.requests, cancelling)
    world.advance(0.05)
    world.settle()
    assert world.cancelled == [2]


def test_an_answer_that_says_less_than_is_known_does_not_settle_a_frame() -> None:
    """An exchange without a wait tells how many frames have come; what became of them is told by others.

    The second frame's refusal is still on its way when such an answer arrives: what is sent afterwards must not
    overtake it.
    """
    world, entity_id = two_runners()
    one = world.runners["one"]
    one.at_once = False
    mine = world.shard_of(entity_id)
    stays = world.send(next(name for name in "bcdefgh" if world.shard_of(name) != mine))
    world.settle()
    one.serving.discard(mine)
    first, second = world.send(entity_id), world.send(entity_id)
    assert stays.cancel()
    plain = next(way for way in world.requests if way.request.cancel)
    world.arrive()
    world.return_answer()  # the first frame is refused
    world.grant("two", mine)
    world.arrive()  # the second frame is refused too: that is still on its way back
    world.arrive(world.requests.index(plain))
    world.return_answer(1)
    world.advance(1)
    world.tell_routes()
    later = world.send(entity_id)
    world.settle()
    world.advance(1)
    world.settle()
    assert [outcome(reply) for reply in (first, second, later)] == [3, 4, 5]
    assert world.taken[1:] == [Taken("two", entity_id, value) for value in (3, 4, 5)]


# -- lost runners


def test_a_lost_runner_ends_what_may_have_run_and_resends_what_may_run_twice_first() -> None:
    """Idempotent messages in flight, then those that had not left, in the order sent."""
    world, _ = one_runner()
    one = world.runners["one"]
    one.at_once = False
    world.add_runner("two")
    in_flight = [world.send("a", name=name) for name in ("put", "look")]
    world.settle()
    in_flight.append(world.send("a", name="look"))
    in_flight.append(world.send("a", name="put"))
    queued = [world.send("a") for _ in range(3)]
    one.alive = False
    world.settle()
    for reply in (in_flight[0], in_flight[3]):
        error = outcome(reply)
        assert isinstance(error, RunnerUnavailable) and error.may_have_run and error.runner == "one"
    world.taken.clear()
    world.grant("two")
    world.settle()
    assert [taken.value for taken in world.taken] == [3, 4, 6, 7, 8]
    assert [outcome(reply) for reply in (*in_flight[1:3], *queued)] == [3, 4, 6, 7, 8]
    counted = world.counted()
    assert counted.value("cluster_redeliveries_total", reason="RunnerUnavailable") == 2
    assert counted.value("cluster_errors_total", type="RunnerUnavailable") == 2


def test_an_idempotent_message_on_the_old_runner_is_not_run_again_behind_what_has_moved_on() -> None:
    """The runner it was running on dies after the shard went elsewhere: run again, it would undo what came after it."""
    world, entity_id = two_runners()
    one = world.runners["one"]
    one.at_once = False
    old = world.send(entity_id, name="look")
    world.settle()
    one.serving.clear()
    world.grant("two")
    new = world.send(entity_id)
    world.settle()
    world.advance(1)
    world.settle()
    assert outcome(new) == 3
    one.alive = False
    world.send("z")
    for way in list(world.requests):
        if way.runner is one:
            world.requests.remove(way)
            way.told(RunnerUnreachable("no answer"))
    world.advance(1)
    world.settle()
    error = outcome(old)
    assert isinstance(error, RunnerUnavailable) and error.may_have_run
    assert Taken("two", entity_id, 2) not in world.taken


def test_what_a_runner_refused_before_it_died_keeps_its_place() -> None:
    """An older idempotent message that was running there goes first."""
    world, entity_id = two_runners()
    one = world.runners["one"]
    one.at_once = False
    running = world.send(entity_id, name="look")
    world.settle()
    one.serving.clear()
    refused = world.send(entity_id)
    waiting = world.send(entity_id, name="look")
    held = world.send(entity_id)
    world.arrive()
    world.return_answer()
    one.alive = False
    world.settle()
    world.taken.clear()
    world.grant("two")
    world.settle()
    world.advance(1)
    world.settle()
    assert [taken.value for taken in world.taken] == [2, 3, 4, 5]
    assert [outcome(reply) for reply in (running, refused, waiting, held)] == [2, 3, 4, 5]
    assert world.counted().value("cluster_redeliveries_total") == 3


def test_a_runner_that_forgot_the_lane_gets_a_new_one() -> None:
    """What was in flight may have run; what comes next is served by the same runner."""
    world, runner = one_runner()
    runner.at_once = False
    lost = world.send("a")
    world.settle()
    runner.lanes.clear()
    runner.opened.clear()
    runner.at_once = True
    later = world.send("a")
    world.settle()
    later_again = world.send("a")
    world.settle()
    assert isinstance(outcome(lost), RunnerUnavailable)
    assert isinstance(outcome(later), RunnerUnavailable)
    assert outcome(later_again) == 4


def test_a_runner_that_forgot_the_lane_and_lives_runs_nothing_again() -> None:
    """Its entities are as they were: what may run twice would run behind what came after it, and undo that."""
    world, runner = one_runner()
    runner.at_once = False
    look, put = world.send("a", name="look"), world.send("a")
    world.settle()
    runner.lanes.clear()  # swept; what both have done is done
    runner.at_once = True
    later = world.send("a")
    world.settle()
    for reply in (look, put, later):
        error = outcome(reply)
        assert isinstance(error, RunnerUnavailable) and error.may_have_run
    assert [taken.value for taken in world.taken] == [2, 3]


def test_a_cancellation_may_overtake_the_first_frame_of_its_lane() -> None:
    """Ray promises its calls no order: the lane begins with it, and the frame comes to that."""
    world = World()
    runner = world.add_runner("one")
    world.grant("one")
    runner.at_once = False
    first, second = world.send("a"), world.send("a")
    world.tell_registered()
    world.tell_routes()
    assert second.cancel()
    (cancelling,) = [n for n, way in enumerate(world.requests) if way.request.cancel]
    world.arrive(cancelling)
    world.settle()
    assert len(world.taken) == 2
    runner.finish()
    runner.finish()
    world.settle()
    assert outcome(first) == 1 and second.done()
    assert world.counted().value("cluster_redeliveries_total") == 0


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
