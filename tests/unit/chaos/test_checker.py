"""The checker on forged records: right ones pass, and each way to break a rule is found and named."""

from __future__ import annotations

import pytest

from tests.chaos.checker import check
from tests.chaos.history import History
from tests.unit.chaos.forged import Forgery, rules_broken


def served() -> Forgery:
    """Two runners, and an entity on the first that has answered."""
    forged = Forgery("r1", "r2")
    forged.activate("r1")
    forged.hit()
    return forged


# -- right records


def test_an_entity_that_serves_is_right() -> None:
    """The simplest record breaks nothing."""
    assert served().broken() == set()


def test_a_move_is_right() -> None:
    """Let go on one runner, alive on the next under a later epoch."""
    forged = served()
    forged.deactivate(reason="handoff")
    forged.activate("r2")
    forged.hit()
    assert forged.broken() == set()


def test_a_life_ends_with_its_process() -> None:
    """The next one may begin as soon as the exit of the process was seen, with the lease still running."""
    forged = served()
    lost = forged.send()
    forged.begin(lost)
    forged.kill("r1")
    forged.fail(lost)
    forged.activate("r2")
    forged.hit()
    assert forged.broken() == set()


def test_a_life_ends_with_the_lease_of_its_runner() -> None:
    """The next one may begin without any proof of death once the lease has ended."""
    forged = served()
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.hit()
    assert forged.broken() == set()


def test_a_runner_that_comes_back_without_its_shards_is_right() -> None:
    """It woke, was renewed, and serves others; the entity it lost lives elsewhere."""
    forged = served()
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.hit()
    forged.renew("r1")
    forged.activate("r1", "b")
    forged.hit("b")
    forged.hit()
    assert forged.broken() == set()


def test_a_gap_between_leases_is_one_also_if_nothing_else_happened_in_it() -> None:
    """The renewal is the first that is noted after the lease has ended: its runner lost the entity all the same."""
    forged = served()
    forged.at = forged.until["r1"] + 1.0
    forged.renew("r1")
    forged.renew("r2")
    forged.activate("r2")
    forged.hit()
    assert forged.broken() == set()


def test_a_suspended_life_goes_on_when_its_runner_is_renewed() -> None:
    """The gap ends nothing while nobody else was activated."""
    forged = served()
    forged.lapse("r1", "r2")
    forged.renew("r1")
    forged.hit()
    assert forged.broken() == set()


def test_what_ended_in_the_gap_may_be_published_after_it() -> None:
    """The handler had its last step just as the lease ended; its reply waited for the renewal."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.lapse("r1", "r2")
    forged.finish(token)
    forged.renew("r1")
    forged.answer(token)
    assert forged.broken() == set()


def test_a_reply_may_arrive_late() -> None:
    """Published in time, and long on its way: by then another one lives."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.finish(token)
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.answer(token)
    assert forged.broken() == set()


def test_a_stopped_runner_may_begin_what_it_had_checked() -> None:
    """Stopped between the check of its lease and the handler's first line: nothing of it is published."""
    forged = served()
    token = forged.send()
    life = forged.lives["a"]
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.hit()
    forged.begin(token, life)
    forged.finish(token, life)
    forged.fail(token)
    assert forged.broken() == set()


def test_an_idempotent_message_may_run_again() -> None:
    """In another activation, after the runner of the first died."""
    forged = served()
    token = forged.send(idempotent=True)
    forged.begin(token)
    forged.kill("r1")
    forged.activate("r2")
    forged.begin(token)
    forged.finish(token)
    forged.answer(token)
    forged.count("redeliveries_total", reason="lost")
    assert forged.broken() == set()


def test_a_killed_sender_owes_no_fates() -> None:
    """Its messages may have any end, and its counts are bounded only."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.finish(token)
    forged.send()
    forged.kill("d")
    forged.counted["cluster_messages_sent_total", (("entity_type", "T"), ("operation", "send"))] -= 1
    assert forged.broken() == set()


def test_a_killed_runner_may_have_counted_less() -> None:
    """What it had not reported is lost: its counts have an upper bound only."""
    forged = served()
    forged.kill("r1")
    forged.activate("r2")
    forged.hit()
    forged.counted["cluster_messages_received_total", (("entity_type", "T"),)] = 1
    forged.counted["cluster_entity_activations_total", (("entity_type", "T"),)] = 1
    assert forged.broken() == set()


# -- one


def test_two_lives_at_a_time() -> None:
    """Two runners with running leases both have it."""
    forged = served()
    forged.activate("r2")
    forged.hit()
    assert forged.broken() == {"one"}


def test_two_lives_at_a_time_on_one_runner() -> None:
    """A runner activates an entity that it has."""
    forged = served()
    forged.activate("r1")
    assert forged.broken() == {"one"}


def test_another_life_within_a_suspension_that_was_survived() -> None:
    """The shard was granted elsewhere in the gap, and the first one served on under its old epoch."""
    forged = served()
    life = forged.lives["a"]
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.deactivate(reason="handoff")
    forged.renew("r1")
    token = forged.send()
    forged.begin(token, life)
    forged.finish(token, life)
    forged.answer(token)
    assert forged.broken() == {"one"}


def test_another_life_before_proof_of_death() -> None:
    """Its process was believed dead and granted away, and its exit came later."""
    forged = served()
    forged.activate("r2")
    forged.kill("r1")
    assert forged.broken() == {"one"}


def test_an_older_epoch_after_a_newer_one() -> None:
    """A grant of an old coordinator took effect."""
    forged = served()
    forged.deactivate()
    forged.activate("r2", epoch=[0, 99])
    forged.hit()
    assert forged.broken() == {"one"}


def test_handling_after_the_deactivation() -> None:
    """What was let go handles one more message."""
    forged = served()
    life = forged.lives["a"]
    forged.deactivate()
    token = forged.send()
    forged.begin(token, life)
    forged.fail(token)
    assert forged.broken() == {"one"}


# -- expiry


def test_a_reply_from_a_lease_that_had_ended() -> None:
    """The handler ended in the gap, and its reply arrived though the lease was not renewed."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.lapse("r1", "r2")
    forged.finish(token)
    forged.answer(token)
    assert forged.broken() == {"expiry"}


def test_a_reply_from_a_lease_that_was_renewed_too_late() -> None:
    """The renewal came after the reply."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.lapse("r1", "r2")
    forged.finish(token)
    forged.answer(token)
    forged.renew("r1")
    forged.hit()
    assert forged.broken() == {"expiry"}


def test_a_reply_of_one_that_had_been_replaced() -> None:
    """The lease was renewed, but the entity had another owner by then."""
    forged = served()
    token = forged.send()
    life = forged.lives["a"]
    forged.begin(token)
    forged.lapse("r1", "r2")
    forged.activate("r2")
    forged.finish(token, life)
    forged.renew("r1")
    forged.answer(token)
    assert forged.broken() == {"expiry"}


def test_a_reply_from_after_the_deactivation() -> None:
    """Its handler was still running when it was let go, and was heard."""
    forged = served()
    token = forged.send()
    life = forged.lives["a"]
    forged.begin(token)
    forged.deactivate()
    forged.finish(token, life)
    forged.answer(token)
    assert forged.broken() == {"expiry"}


def test_answers_that_leave_in_a_gap() -> None:
    """Where the way out of a runner is recorded, nothing may take it in a gap."""
    forged = served()
    forged.note("left", "r1", runner="r1")
    forged.lapse("r1")
    forged.note("left", "r1", runner="r1")
    assert forged.broken() == {"expiry"}


# -- fates, runs, replies


def test_no_fate() -> None:
    """A message that nobody answered."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.counted[
        "cluster_message_latency_seconds", (("entity_type", "T"), ("outcome", "ok"), ("operation", "send"))
    ] += 1
    violations = [v for v in check(History(forged.end())) if v.rule != "counts"]
    assert [v.rule for v in violations] == ["fate"]
    assert token in str(violations[0])


def test_two_fates() -> None:
    """A message that ends twice."""
    forged = served()
    token = forged.hit()
    forged.note("fate", token=token, ok=False, reason="Timeout", may_have_run=True)
    assert "fate" in forged.broken()


def test_a_fate_after_the_end() -> None:
    """The run was over, and a message was not."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.finish(token)
    forged.end()
    forged.answer(token)
    assert "fate" in rules_broken(forged.events)


def test_a_double_run() -> None:
    """Not idempotent, and begun again elsewhere after the first runner had died."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.kill("r1")
    forged.activate("r2")
    forged.begin(token)
    forged.finish(token)
    forged.answer(token)
    forged.count("redeliveries_total", reason="lost")
    assert forged.broken() == {"double run"}


def test_a_double_run_in_one_activation() -> None:
    """A frame that came twice was taken twice."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.finish(token)
    forged.begin(token)
    forged.finish(token)
    forged.answer(token)
    forged.count("redeliveries_total", reason="lost")
    assert forged.broken() == {"double run"}


def test_an_invented_reply() -> None:
    """A value that no handler returned."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.finish(token)
    forged.answer(token, value="another's")
    assert forged.broken() == {"true reply"}


def test_a_reply_before_its_handler_returned() -> None:
    """It was answered too early."""
    forged = served()
    token = forged.send()
    forged.begin(token)
    forged.answer(token)
    forged.note("done", "r1", activation="activation-1", token=token, value=token)
    assert forged.broken() == {"true reply"}


def test_a_reply_of_a_handler_that_never_began() -> None:
    """A `done` without its `began` proves nothing."""
    forged = served()
    token = forged.send()
    forged.finish(token)
    forged.answer(token)
    assert forged.broken() == {"true reply"}


@pytest.mark.parametrize("late", [False, True])
def test_has_not_run_and_began(late: bool) -> None:
    """An error that says so binds, before the beginning and after it."""
    forged = served()
    token = forged.send()
    life = forged.lives["a"]
    if not late:
        forged.begin(token)
    forged.fail(token, may_have_run=False)
    if late:
        forged.begin(token, life)
    assert forged.broken() == {"true reply"}


# -- order


def test_a_message_that_overtakes_in_an_activation() -> None:
    """The later one began first."""
    forged = served()
    first, second = forged.send(), forged.send()
    for token in (second, first):
        forged.begin(token)
        forged.finish(token)
        forged.answer(token)
    violations = check(History(forged.end()))
    assert {v.rule for v in violations} == {"order"}
    assert first in str(violations[0]) and second in str(violations[0])


def test_a_message_that_overtakes_over_activations() -> None:
    """The later one began on the old runner, the earlier one was sent on to the new one."""
    forged = served()
    first, second = forged.send(), forged.send()
    forged.begin(second)
    forged.finish(second)
    forged.answer(second)
    forged.deactivate(reason="handoff")
    forged.activate("r2")
    forged.begin(first)
    forged.finish(first)
    forged.answer(first)
    assert forged.broken() == {"order"}


def test_idempotent_messages_that_run_again_in_another_order() -> None:
    """Each began in order the first time, and not in the activation that followed."""
    forged = served()
    first, second = forged.send(idempotent=True), forged.send(idempotent=True)
    forged.begin(first)
    forged.begin(second)
    forged.kill("r1")
    forged.activate("r2")
    for token in (second, first):
        forged.begin(token)
        forged.finish(token)
        forged.answer(token)
    forged.count("redeliveries_total", 2, reason="lost")
    assert forged.broken() == {"order"}


def test_messages_of_two_entities_have_no_order() -> None:
    """Order is per sender and address."""
    forged = served()
    forged.activate("r2", "b")
    first, second = forged.send("a"), forged.send("b")
    for token in (second, first):
        forged.begin(token)
        forged.finish(token)
        forged.answer(token)
    assert forged.broken() == set()


# -- counts


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    "name, labels",
    [
        ("messages_sent_total", {"operation": "send"}),
        ("message_latency_seconds", {"outcome": "ok", "operation": "send"}),
        ("message_latency_seconds", {"outcome": "error", "operation": "send"}),
        ("errors_total", {"type": "RunnerUnavailable", "operation": "send"}),
        ("errors_total", {"type": "Timeout", "operation": "send"}),
        ("entity_activations_total", {}),
        ("entity_deactivations_total", {"reason": "idle"}),
        ("messages_received_total", {}),
    ],
)
def test_a_metric_that_is_not_the_record(name: str, labels: dict[str, str], by: int) -> None:
    """One more or one less in any of them is found."""
    forged = served()
    forged.hit()
    for reason in ("RunnerUnavailable", "Timeout"):
        token = forged.send()
        forged.begin(token)
        forged.fail(token, reason)
    forged.deactivate()
    assert Forgery.broken(served()) == set()
    forged.count(name, by, **labels)
    assert forged.broken() == {"counts"}


def after_a_kill() -> Forgery:
    """One runner was killed and may have counted less; the other one has taken a message since."""
    forged = served()
    forged.kill("r1")
    forged.activate("r2")
    forged.hit()
    return forged


RECEIVED = ("cluster_messages_received_total", (("entity_type", "T"),))


def test_what_survivors_received_after_the_last_kill_was_counted() -> None:
    """That one was killed excuses nothing that it cannot have had to do with."""
    forged = after_a_kill()
    forged.counted[RECEIVED] = 1
    assert forged.broken() == set()
    forged = after_a_kill()
    forged.counted[RECEIVED] = 0
    assert forged.broken() == {"counts"}


def test_what_a_killed_runner_had_sent_back_was_counted_there_and_lost() -> None:
    """It was sent while that one lived, and began elsewhere: whether it had been there the record doesn't tell."""
    forged = served()
    token = forged.send()
    forged.deactivate(reason="handoff")
    forged.activate("r2")
    forged.begin(token)
    forged.finish(token)
    forged.answer(token)
    forged.kill("r1")
    forged.counted[RECEIVED] = 0
    assert forged.broken() == set()


def test_no_counts() -> None:
    """A record without counts does not pass for one that counts right."""
    forged = served()
    forged.counted.clear()
    assert forged.broken() == {"counts"}


# -- the record itself


def test_a_record_without_an_end() -> None:
    """A run that broke off proves nothing."""
    events = served().end()
    assert rules_broken(events[:-1]) == {"record"}


def test_an_ended_process_that_goes_on() -> None:
    """Its exit was seen too early: then nothing that follows from it holds."""
    forged = served()
    life = forged.lives["a"]
    forged.kill("r1")
    forged.lives["a"] = life
    token = forged.send()
    forged.begin(token)
    forged.fail(token)
    assert "record" in forged.broken()


def test_a_runner_without_leases() -> None:
    """An activation whose runner recorded no lease cannot be judged."""
    forged = served()
    forged.activate("r3", "c")
    assert forged.broken() == {"record"}


@pytest.mark.parametrize("kind", ["began", "fate"])
def test_a_token_that_was_not_sent(kind: str) -> None:
    """Each message has its sending in the record."""
    forged = served()
    if kind == "began":
        forged.note("began", "r1", activation="activation-1", token="stray")
    else:
        forged.note("fate", token="stray", ok=False, reason="Timeout", may_have_run=True)
    assert "record" in forged.broken()


def test_a_name_that_was_given_twice() -> None:
    """Activations are told apart by their names."""
    forged = served()
    forged.deactivate()
    forged.activate("r2", activation="activation-1")
    assert "record" in forged.broken()
