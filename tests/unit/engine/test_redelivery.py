"""How often a sender sends again: back-off with jitter, a budget over all shards, and what cuts a wait short."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_app.config import ClusterConfig
from cluster_app.ended_lanes import EndedLanes
from cluster_app.exchange import RunnerUnreachable
from cluster_app.grants import Epoch
from cluster_app.redelivery_budget import RedeliveryBudget
from cluster_app.routes import Loss, Routes
from cluster_app.timetable import Timetable
from entities.errors import RunnerUnavailable
from entities.response import EntityResponse
from tests.unit.engine.wire import Taken, World, one_runner, outcome

REDELIVERED = "cluster_redeliveries_total"

# -- back-off


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=30))
def test_waits_lie_between_the_first_and_the_longest(chances: list[float]) -> None:
    """Each at most three times the one before it; the first is the shortest."""
    drawn = iter(chances)
    timetable = Timetable(lambda: 0.0, lambda when: None, 30.0, lambda: next(drawn))
    waits = [0.0]
    for _ in chances:
        waits.append(timetable.back_off(waits[-1], 0.1, 2.0))
    assert waits[1] == 0.1
    for before, wait in itertools.pairwise(waits[1:]):
        assert 0.1 <= wait <= min(2.0, 3 * before + 1e-9)


def test_senders_that_failed_together_do_not_try_again_together() -> None:
    """A thousand of them: their third tries are spread over the whole interval."""
    thirds = []
    for seed in range(1000):
        timetable = Timetable(lambda: 0.0, lambda when: None, 30.0, random.Random(seed).random)
        second = timetable.back_off(timetable.back_off(0.0, 0.1, 2.0), 0.1, 2.0)
        thirds.append(0.1 + second + timetable.back_off(second, 0.1, 2.0))
    tenths = [sum(1 for third in thirds if n / 10 <= third < (n + 1) / 10) for n in range(3, 13)]
    assert max(tenths) < 300 and sum(1 for count in tenths if count > 20) >= 7


def test_a_failed_exchange_is_resumed_less_and_less_often_until_one_succeeds() -> None:
    """With the chance at its middle: 50 ms, 100 ms, 175 ms ... up to a second; an answer begins anew."""
    world, _ = one_runner()
    world.send("a")
    waits: list[float] = []
    for _ in range(8):
        failed_at = world.now_s
        for way in list(world.requests):
            world.requests.remove(way)
            way.told(RunnerUnreachable("no answer"))
        while not world.frames_out():
            world.advance(0.0125)
        waits.append(round(world.now_s - failed_at, 4))
    assert waits[:4] == [0.05, 0.1, 0.175, 0.2875]
    assert waits[-1] == 1.0
    world.settle()
    failed_at = world.now_s
    world.send("a")
    world.lose(world.requests, world.frames_out()[0])
    while not world.frames_out():
        world.advance(0.0125)
    assert round(world.now_s - failed_at, 4) == 0.05


def test_a_coordinator_that_does_not_answer_is_asked_less_and_less_often() -> None:
    """At most twice a second, so that the next one is found soon."""
    world = World()
    world.send("a")
    world.tell_registered()
    at: list[float] = []
    for _ in range(6):
        while not world.asked:
            world.advance(0.0125)
        at.append(world.now_s)
        for _, told in world.asked:
            world.asked = []
            told(ConnectionError("nobody"))
    waits = [round(later - earlier, 4) for earlier, later in itertools.pairwise(at)]
    assert waits == [0.05, 0.1, 0.175, 0.2875, 0.4625]


def test_a_runner_that_refuses_is_left_alone_until_there_is_news() -> None:
    """Under the grant that it refused it is asked again after 0.1 s, 0.2 s ...; a new grant is tried at once."""
    world, one = one_runner()
    one.serving.clear()
    reply = world.send("a")
    world.settle()
    assert world.frames == [1]
    world.advance(0.09)
    world.settle()
    assert world.frames == [1]
    world.advance(0.02)
    world.settle()
    assert world.frames == [1, 1]
    world.advance(0.1)
    world.settle()
    assert world.frames == [1, 1]
    world.grant("one")  # under a later epoch
    world.settle()
    assert world.frames == [1, 1, 1]
    assert outcome(reply) == 2


def test_a_new_owner_is_tried_at_once() -> None:
    """However long the old one would be left alone by now."""
    world, one = one_runner()
    world.add_runner("two")
    one.serving.clear()
    reply = world.send("a")
    for _ in range(8):
        world.settle()
        world.advance(0.5)
    assert not reply.done()
    world.grant("two")
    world.settle()
    assert outcome(reply) == 2


# -- the budget


def test_a_full_budget_is_ten_seconds_of_its_floor() -> None:
    """Then it refills by a thousand a second, and waits tell when there is something."""
    budget = RedeliveryBudget(0.0)
    assert budget.wait_s(0.0, 0) == 0
    budget.spend(10_000)
    assert budget.wait_s(0.0, 0) == pytest.approx(0.001)
    assert budget.wait_s(0.001, 0) == 0
    budget.spend(1)
    assert budget.wait_s(0.001, 0) > 0
    assert budget.wait_s(1000.0, 0) == 0
    budget.spend(10_000)
    assert budget.wait_s(1000.0, 0) > 0


def test_each_message_that_ends_makes_room_for_one() -> None:
    """So a runner that serves again is soon given all that waits for it."""
    budget = RedeliveryBudget(0.0)
    budget.spend(10_000)
    assert budget.wait_s(0.0, 500) == 0
    budget.spend(500)
    assert budget.wait_s(0.0, 500) > 0
    assert budget.wait_s(0.0, 400) > 0  # some that seemed to have ended came back
    assert budget.wait_s(0.0, 500) > 0
    assert budget.wait_s(0.0, 501) == 0


def test_no_debt_is_longer_than_ten_seconds() -> None:
    """One crowded shard overdraws it; the others wait no longer than that."""
    budget = RedeliveryBudget(0.0)
    budget.spend(1_000_000)
    assert budget.wait_s(0.0, 0) == pytest.approx(10.001)
    assert budget.wait_s(10.002, 0) == 0


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 5_000), st.integers(0, 3_000)), max_size=60),
)
def test_what_is_spent_stays_within_what_came_in_and_one_shard(steps: list[tuple[float, int, int]]) -> None:
    """Over any course of time, with any traffic."""
    budget, now, ended, spent, largest = RedeliveryBudget(0.0), 0.0, 0, 0, 0
    for passed_s, more, wanted in steps:
        now, ended = now + passed_s, ended + more
        if budget.wait_s(now, ended) == 0:
            budget.spend(wanted)
            spent, largest = spent + wanted, max(largest, wanted)
    assert spent <= 1_000 * (10 + now) + ended + largest + 1e-6


def flapping(messages: int, seconds: float) -> tuple[World, int, list[EntityResponse[int]]]:
    """A runner that is granted everything anew every tenth of a second and never serves it: what left by then."""
    world = World(ClusterConfig(shards_per_group=100))
    one = world.add_runner("one")
    world.grant("one")
    one.serving.clear()
    replies = [world.send(f"e{number % 2000}") for number in range(messages)]
    world.settle()
    for _ in range(round(seconds * 10)):
        world.advance(0.1)
        world.grant("one")
        one.serving.clear()
        world.settle()
    return world, sum(world.frames), replies


def test_a_flapping_runner_makes_no_storm_of_what_is_held() -> None:
    """30,000 messages, 50 grants that come to nothing in 5 s: each is sent twice, then so many as the budget has."""
    world, left, replies = flapping(30_000, 5.0)
    redelivered = left - 30_000
    assert world.counted().value(REDELIVERED, reason="EntityNotAssignedToRunner") >= redelivered
    most_of_one_shard = 1_000
    first_ones, floor = 30_000, 10_000 + 5_000
    assert redelivered <= first_ones + floor + most_of_one_shard
    assert (
        redelivered > first_ones + floor - most_of_one_shard
    )  # used up; without it there would be 1,500,000
    assert not any(reply.done() for reply in replies)
    world.grant("one")
    world.settle()
    world.advance(1.1)  # the budget is overdrawn by one shard at most
    world.settle()
    assert [outcome(reply) for reply in replies] == list(range(1, 30_001))  # each that ends lets one more go
    taken: dict[str, int] = {}
    for entry in world.taken:  # what waited kept its order
        assert entry.value > taken.get(entry.entity_id, 0)
        taken[entry.entity_id] = entry.value


def test_a_lost_runner_with_ten_thousand_messages_is_no_storm() -> None:
    """Idempotent messages in flight are all sent again at once, as often as it takes one runner to die."""
    world = World(ClusterConfig(shards_per_group=100))
    one, two = world.add_runner("one"), world.add_runner("two")
    one.at_once = False
    world.grant("one")
    replies = [world.send(f"e{number % 500}", name="look") for number in range(10_000)]
    world.settle()
    assert len(one.opened) == 10_000
    world.advance(12.0)  # slow handlers: no fresh messages for long
    one.alive = False
    world.grant("two")
    world.settle()
    assert [outcome(reply) for reply in replies] == list(range(1, 10_001))
    assert world.counted().value(REDELIVERED, reason="RunnerUnavailable") == 10_000
    assert two.alive and sum(world.frames) == 20_000


def test_the_id_of_a_message_stays_the_first_however_often_it_is_sent_again() -> None:
    """Refused, taken and handed back, refused again."""
    world, one = one_runner()
    one.at_once = False
    reply = world.send("a")
    world.settle()
    one.give_up(world.shard_of("a"))
    world.settle()
    first_id = reply.resent_as and reply.resent_as[0]
    assert reply.resent_as is not None
    assert reply.resent_as[:2] == ("sender/0:1", True)
    assert reply.resent_as.times in (0, 1)
    assert not reply.resent_as.may_have_run
    two = world.add_runner("two")
    two.at_once = False
    world.grant("two")
    world.settle()
    two.give_up(world.shard_of("a"))
    world.settle()
    world.advance(0.0)
    one.at_once = True
    world.grant("one")
    world.settle()
    assert outcome(reply) == 2
    assert reply.resent_as[:3] == (first_id, True, 2)


# -- lost runners


def lose(world: World, runner_id: str, ago_s: float) -> None:
    """Let the coordinator say that it has taken everything from a runner."""
    world.version += 1
    told = Routes(world.version, dict(world.owners), {runner_id: Loss(Epoch(1, world.version - 1), ago_s)})
    asked, world.asked = world.asked, []
    for _, tell in asked:
        tell(told)


def test_a_silent_runner_makes_its_sender_ask_and_an_answer_ends_that() -> None:
    """Half a second after an answer was due; once it comes nobody asks any more."""
    world, _ = one_runner()
    world.send("a")
    world.advance(0.49)
    assert world.asked == []
    world.advance(0.02)
    assert len(world.asked) == 1
    version, told = world.asked.pop()
    told(None)
    assert [asked for asked, _ in world.asked] == [version]  # it is still silent
    world.settle()
    version, told = world.asked.pop()
    world.advance(0.5)
    told(None)
    world.advance(3.0)
    assert world.asked == []


def test_what_was_sent_since_a_runner_was_lost_is_sent_again_and_nothing_before() -> None:
    """By the time for which it has served nothing; a new lane takes what comes."""
    world, _ = one_runner()
    two = world.add_runner("two")
    before = world.send("a")
    world.advance(0.6)
    since = world.send("a")
    world.advance(0.4)
    world.owners = {shard: ("two", Epoch(1, world.version + 5)) for shard in world.owners}
    two.serving = set(world.owners)
    lose(world, "one", 0.5)
    assert isinstance(outcome(before), RunnerUnavailable) and outcome(before).may_have_run
    world.settle()
    assert outcome(since) == 3
    assert world.taken[-1] == Taken("two", "a", 3)


def test_a_lane_that_knows_of_a_later_grant_is_not_given_up() -> None:
    """The runner was lost, woke up and got shards again before this sender ever sent to it."""
    world, one = one_runner()
    one.at_once = False
    reply = world.send("a")
    world.settle()
    world.advance(0.6)
    world.version += 1
    told = Routes(world.version, dict(world.owners), {"one": Loss(Epoch(1, 1), 5.0)})
    for _, tell in world.asked:
        world.asked = []
        tell(told)
    assert not reply.done()
    one.finish()
    world.settle()
    assert outcome(reply) == 2


def test_a_late_answer_of_a_runner_that_was_given_up_changes_nothing() -> None:
    """It woke up: its answers are of a lane that is no more."""
    world, one = one_runner()
    world.add_runner("two")
    reply = world.send("a", name="look")
    world.arrive()
    world.advance(0.6)
    world.owners = {}
    lose(world, "one", 0.2)
    assert not reply.done()
    while world.answers:
        world.return_answer()
    assert not reply.done()
    world.grant("two")
    world.settle()
    assert outcome(reply) == 2
    assert [taken.runner for taken in world.taken] == ["one", "two"]
    assert one.lanes == {}  # it was told that nothing more comes by that lane


def test_the_routes_of_a_coordinator_that_stood_still_are_not_believed() -> None:
    """They are older than what is known; asking it goes on, with a back-off."""
    world, one = one_runner()
    one.serving.clear()
    world.add_runner("two")
    reply = world.send("a")
    world.settle()
    (_, told), world.asked = world.asked[0], []
    told(Routes(0, {shard: ("two", Epoch(0, 1)) for shard in world.owners}))
    assert world.frames_out() == [] and world.asked == []
    world.advance(0.05)
    assert len(world.asked) == 1
    world.grant("two")
    world.settle()
    assert outcome(reply) == 2


# -- lanes that ended


def test_a_lane_that_ended_is_remembered_for_an_hour_of_sweeps() -> None:
    """However many others end meanwhile, and however long the process stands still between two sweeps."""
    ended = EndedLanes()
    ended.add(("sender", 1))
    for number in range(20_000):
        ended.add((f"sender {number}", 0))
    for _ in range(3_599):
        ended.swept()
    assert ("sender", 1) in ended
    ended.swept()
    assert ("sender", 1) not in ended
    assert ended._ended == {}
