"""The checker on forged records with broadcasts: right ones pass, and each way to break a rule is found and named."""

from __future__ import annotations

import pytest

from tests.unit.chaos.forged import Forgery


def three() -> Forgery:
    """Two runners; two entities on the first and one on the second."""
    forged = Forgery("r1", "r2")
    for runner, entity_id in (("r1", "a"), ("r1", "b"), ("r2", "c")):
        forged.activate(runner, entity_id)
        forged.hit(entity_id)
    return forged


def sent(*reached: str, idempotent: bool = False) -> tuple[Forgery, str]:
    """A broadcast that these have handled, and nobody has told of yet."""
    forged = three()
    token = forged.broadcast(idempotent=idempotent)
    forged.reach(token, *reached)
    return forged, token


# -- right records


def test_a_broadcast_that_everybody_returned_is_right() -> None:
    """Each entity that lives has handled it, and the reply says how many."""
    forged, token = sent("a", "b", "c")
    forged.told(token, 3)
    assert forged.broken() == set()


def test_a_broadcast_to_nobody_is_right() -> None:
    """Nobody lived."""
    forged = Forgery("r1")
    forged.told(forged.broadcast(), 0)
    assert forged.broken() == set()


def test_a_shard_whose_runner_died_counts_once_whoever_lived_there() -> None:
    """Two had returned it, or only begun; their runner could not tell of it."""
    forged, token = sent("a", "c")
    runner, name = forged.lives["b"]
    forged.note("began", runner, activation=name, token=token)
    forged.count("messages_received_total", operation="broadcast")
    forged.kill("r1")
    forged.told(token, 1, RunnerUnavailable=1)
    assert forged.broken() == set()


def test_an_idempotent_broadcast_may_run_again() -> None:
    """Where its shard went: the next one there counts, and the one that was lost does not."""
    forged, token = sent("a", "c", idempotent=True)
    forged.kill("r1")
    forged.activate("r2", "a")
    forged.reach(token, "a")
    forged.told(token, 2)
    assert forged.broken() == set()


@pytest.mark.parametrize(
    ("idempotent", "lost", "broken"),
    [(True, True, set()), (True, False, {"order"}), (False, True, {"order"})],
)
def test_a_broadcast_sent_again_to_who_came_to_life_since_has_no_place_among_what_was_lost(
    idempotent: bool, lost: bool, broken: set[str]
) -> None:
    """One that did not live when the broadcast came has handled later messages, and its runner was lost with that."""
    forged, token = sent("b", idempotent=idempotent)
    forged.deactivate("a")
    forged.activate("r1", "a")
    forged.hit("a")
    if lost:
        forged.kill("r1")
    else:
        forged.deactivate("a", "handoff")
    forged.activate("r2", "a")
    forged.reach(token, "a")
    forged.told(token, 2)
    assert forged.broken() == broken


def test_a_broadcast_keeps_its_place_among_messages() -> None:
    """Sent between two of them, begun between them."""
    forged = three()
    first, second, third = forged.send("a"), forged.broadcast(), forged.send("a")
    for token in (first, third):
        if token == third:
            forged.reach(second, "a", "b", "c")
        forged.begin(token)
        forged.finish(token)
        forged.answer(token)
    forged.told(second, 3)
    assert forged.broken() == set()


def test_a_broadcast_that_reached_nobody_may_fail_as_a_whole() -> None:
    """It has not run, and counts as one."""
    forged = three()
    token = forged.broadcast()
    forged.note("fate", token=token, ok=False, reason="RunnerNotRegistered", may_have_run=False)
    forged.count("messages_sent_total", operation="broadcast")
    forged.count("message_latency_seconds", outcome="error", operation="broadcast")
    forged.count("errors_total", type="RunnerNotRegistered", operation="broadcast")
    assert forged.broken() == set()


def test_what_a_killed_sender_has_counted_of_its_broadcasts_is_not_known() -> None:
    """Its targets are in no reply."""
    forged, _ = sent("a", "b", "c")
    forged.kill("d")
    forged.count("messages_sent_total", 2, operation="broadcast")
    assert forged.broken() == set()


# -- and wrong ones


def test_two_fates() -> None:
    """It ends once, as other messages do."""
    forged, token = sent("a", "b", "c")
    forged.told(token, 3)
    forged.note("fate", token=token, ok=False, reason="Timeout", may_have_run=True)
    assert forged.broken() == {"fate"}


def test_no_fate() -> None:
    """Nor does its sender wait for ever."""
    forged, _ = sent("a", "b", "c")
    assert forged.broken() == {"fate"}


def test_one_address_begins_it_twice() -> None:
    """Not idempotent, and taken twice by an entity that lives."""
    forged, token = sent("a", "b", "c", "b")
    forged.told(token, 3)
    assert forged.broken() == {"double run"}


def test_one_address_begins_it_again_elsewhere() -> None:
    """Its runner was lost, and another one got it too."""
    forged, token = sent("a", "b", "c")
    forged.kill("r1")
    forged.activate("r2", "a")
    forged.reach(token, "a")
    forged.told(token, 1, RunnerUnavailable=1)
    assert forged.broken() == {"double run"}


@pytest.mark.parametrize("idempotent", [False, True])
def test_delivered_to_more_than_returned_it(idempotent: bool) -> None:
    """One of them has not even begun."""
    forged, token = sent("a", "b", idempotent=idempotent)
    forged.told(token, 3)
    assert forged.broken() == {"true reply"}


def test_an_idempotent_broadcast_that_ran_twice_in_an_address_was_delivered_there_once() -> None:
    """The reply counts entities."""
    forged, token = sent("a", "a", "c", idempotent=True)
    forged.told(token, 3)
    assert forged.broken() == {"true reply"}


def test_delivered_before_it_was_returned() -> None:
    """The reply was there first."""
    forged, token = sent("a", "b")
    forged.told(token, 3)
    forged.reach(token, "c")
    assert forged.broken() == {"true reply"}


def test_delivered_by_one_whose_lease_had_ended() -> None:
    """It returned it in the gap, and its runner never got another lease."""
    forged = three()
    token = forged.broadcast()
    forged.reach(token, "c")
    runner, name = forged.lives["a"]
    forged.note("began", runner, activation=name, token=token)
    forged.count("messages_received_total", operation="broadcast")
    forged.lapse("r1", "r2")
    forged.note("done", runner, activation=name, token=token, value=token)
    forged.told(token, 2)
    assert forged.broken() == {"true reply"}


def test_delivered_to_less_than_began_it_though_nothing_failed() -> None:
    """Whoever has begun it returned it, or failed."""
    forged, token = sent("a", "b", "c")
    forged.told(token, 2)
    assert forged.broken() == {"true reply"}


def test_failures_that_are_not_the_sum_of_the_errors() -> None:
    """Each has its reason."""
    forged, token = sent("a", "b")
    forged.note("fate", token=token, ok=True, delivered=2, failed=2, errors={"Timeout": 1})
    for name, labels in (
        ("messages_sent_total", {}),
        ("message_latency_seconds", {"outcome": "error"}),
        ("errors_total", {"type": "Timeout"}),
    ):
        forged.count(name, 1, operation="broadcast", **labels)
    forged.count("messages_sent_total", 2, operation="broadcast")
    forged.count("message_latency_seconds", 2, outcome="ok", operation="broadcast")
    assert forged.broken() == {"true reply"}


def test_has_not_run_and_began() -> None:
    """What ends the reply as a whole has run nowhere."""
    forged, token = sent("a")
    forged.note("fate", token=token, ok=False, reason="RunnerNotRegistered", may_have_run=False)
    forged.count("messages_sent_total", operation="broadcast")
    forged.count("message_latency_seconds", outcome="error", operation="broadcast")
    forged.count("errors_total", type="RunnerNotRegistered", operation="broadcast")
    assert forged.broken() == {"true reply"}


@pytest.mark.parametrize("which", ["a", "c"])
def test_a_broadcast_that_a_later_message_overtakes(which: str) -> None:
    """At any of its targets."""
    forged = three()
    first, second = forged.broadcast(), forged.send(which)
    forged.begin(second)
    forged.finish(second)
    forged.answer(second)
    forged.reach(first, "a", "b", "c")
    forged.told(first, 3)
    assert forged.broken() == {"order"}


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    "name, labels",
    [
        ("messages_sent_total", {}),
        ("message_latency_seconds", {"outcome": "ok"}),
        ("message_latency_seconds", {"outcome": "error"}),
        ("errors_total", {"type": "RunnerUnavailable"}),
        ("errors_total", {"type": "Timeout"}),
    ],
)
def test_counts_that_are_not_what_the_replies_say(name: str, labels: dict[str, str], by: int) -> None:
    """One more or one less in any of them is found."""
    forged, token = sent("a")
    forged.told(token, 1, RunnerUnavailable=1, Timeout=1)
    forged.count(name, by, operation="broadcast", **labels)
    assert forged.broken() == {"counts"}


def test_a_target_that_was_not_counted_as_received() -> None:
    """By a runner that lived to tell."""
    forged, token = sent("a", "b", "c")
    forged.kill("r1")
    forged.told(token, 3)
    forged.counted["cluster_messages_received_total", (("entity_type", "T"), ("operation", "broadcast"))] = 1
    assert Forgery.broken(forged) == set()
    forged, token = sent("a", "b", "c")
    forged.kill("r1")
    forged.told(token, 3)
    forged.counted["cluster_messages_received_total", (("entity_type", "T"), ("operation", "broadcast"))] = 0
    assert forged.broken() == {"counts"}
