"""What a sender holds: for a type that is not registered, for a shard that nobody serves, or sent back."""

from __future__ import annotations

import pytest

from cluster_app.code import TypeConflict
from entities.declaration import define
from entities.errors import (
    Cancelled,
    EntityNotAssignedToRunner,
    RunnerNotRegistered,
    Timeout,
)
from tests.unit.engine.wire import Ledger, Taken, World, one_runner, outcome, two_runners

LATENCY = "cluster_message_latency_seconds"


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
