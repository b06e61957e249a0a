"""What becomes of a sender's messages when exchanges fail and runners are lost."""

from __future__ import annotations

from cluster_app.exchange import RunnerUnreachable
from entities.errors import (
    RunnerUnavailable,
)
from tests.unit.engine.wire import Taken, World, one_runner, outcome, two_runners

LATENCY = "cluster_message_latency_seconds"


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
