"""Stories of one cluster: first start, joining, leaving, dying, and one term after another."""

from __future__ import annotations

import dataclasses

import pytest

from cluster_app.coordinator import RunnerEnded
from cluster_app.grants import Epoch
from cluster_app.leadership import NotLeading
from cluster_app.roster import RosterEntry, RosterWrite
from cluster_app.shard_map import assign
from tests.unit.ownership.small_cluster import CONFIG, OLD_LEASES_END, SHARDS, SmallCluster, served_by

LEASE_ENDS = CONFIG.lease_s + CONFIG.drift_s


def test_the_first_grants_wait_for_the_expected_runners_and_come_at_once() -> None:
    """With no time passing at all: the first of two runners gets nothing, with the second both get all."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    first, second = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, first)
    assert first.valid(0.0)
    assert first.grants == {}
    cluster.serve(coordinator, first, second)
    wanted = assign(SHARDS, {"a": 1.0, "b": 1.0})
    assert {shard: ("a" if shard in first.grants else "b") for shard in SHARDS} == wanted
    assert first.grants.keys() | second.grants.keys() == set(SHARDS)
    assert coordinator.drain_handoffs() == []


def test_the_first_grants_do_not_wait_for_ever() -> None:
    """When an expected runner does not come, the others get its share after `first_grant_wait_s`."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    alone = cluster.runner("a")
    cluster.pass_time(4.75, coordinator, alone)
    assert alone.grants == {}
    cluster.pass_time(0.25, coordinator, alone)
    assert alone.grants.keys() == set(SHARDS)


def test_no_grant_leaves_before_the_runner_is_on_the_roster() -> None:
    """The first answer lends no shards; they come when the entry is written and confirmed."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    coordinator = cluster.coordinator()
    runner = cluster.runner("a")
    assert cluster.renew(runner, coordinator).renew_at_once
    cluster.renew(runner, coordinator)
    assert runner.grants == {}
    entry = RosterEntry("node-of-a", 7, Epoch(1, 0))
    assert coordinator.roster_writes() == [RosterWrite("a", entry)]
    assert not coordinator.has_news(runner.renewal())
    cluster.write_roster(coordinator)
    assert cluster.roster.entries() == {"a": entry}
    assert coordinator.roster_writes() == []
    assert coordinator.has_news(runner.renewal())
    assert cluster.renew(runner, coordinator).granted.keys() == set(SHARDS)


def test_a_renewal_of_a_lower_term_is_told_the_term_and_lent_nothing() -> None:
    """Such a runner may still obey the old coordinator, so its silence has to be counted from before."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    lease = coordinator.renew(cluster.runner("a").renewal(), 0.0)
    assert (lease.term, lease.lease_s, lease.version, lease.grants) == (1, 0.0, 0, None)
    assert coordinator.runners() == []


def test_an_idle_renewal_is_answered_without_grants() -> None:
    """Nothing new: the answer only renews, and the edge may hold it back."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    runners = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *runners)
    version = coordinator.version
    renewal = runners[0].renewal()
    assert not coordinator.has_news(renewal)
    assert coordinator.renew(renewal, 0.5).grants is None
    assert coordinator.version == version


def test_a_runner_that_joins_gets_its_share_by_handoff_and_nothing_else_moves() -> None:
    """At most `max_moving_shards` are asked back at a time; each is granted anew only after it was let go."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, shards_per_group=60, max_moving_shards=3))
    coordinator = cluster.coordinator()
    old = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *old)
    before = {shard: runner for runner in old for shard in runner.grants}
    joined = cluster.runner("c")
    for _ in range(2):
        cluster.renew(joined, coordinator)
    cluster.write_roster(coordinator)
    asked = [cluster.renew(runner, coordinator).to_release for runner in old]
    assert sum(map(len, asked)) == 3
    assert joined.grants == {}
    for runner, shards in zip(old, asked, strict=True):
        for shard in shards:
            runner.released(shard)
    cluster.serve(coordinator, *old, joined)
    wanted = assign(before, {"a": 1.0, "b": 1.0, "c": 1.0})
    for shard, runner in before.items():
        assert (joined if wanted[shard] == "c" else runner).owns(shard) is not None
    handoffs = coordinator.drain_handoffs()
    assert {(handoff.reason, handoff.outcome) for handoff in handoffs} == {("join", "ok")}
    assert {handoff.shard for handoff in handoffs} == joined.grants.keys()
    assert coordinator.drain_handoffs() == []


def test_a_runner_proven_dead_is_replaced_without_any_wait() -> None:
    """Its shards go to the others in the same instant, and its roster entry goes too."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    dead, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, dead, heir)
    coordinator.proven_dead("a", cluster.now)
    assert cluster.renew(heir, coordinator).granted.keys() == dead.grants.keys()
    handoffs = coordinator.drain_handoffs()
    assert {(handoff.reason, handoff.outcome, handoff.seconds) for handoff in handoffs} == {
        ("lost", "ok", 0.0)
    }
    cluster.write_roster(coordinator)
    assert cluster.roster.entries().keys() == {"b"}
    assert [view.runner_id for view in coordinator.runners()] == ["b"]


def test_after_the_only_runner_died_the_next_one_gets_everything_at_once() -> None:
    """Also while more runners are expected: only the very first grants wait for those."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *both)
    for runner in both:
        coordinator.proven_dead(runner.runner_id, cluster.now)
    assert coordinator.routes() is not None
    successor = cluster.runner("c")
    cluster.serve(coordinator, successor)
    assert successor.grants.keys() == set(SHARDS)


def test_a_late_renewal_of_a_dead_runner_is_refused() -> None:
    """It must not come back to life by a message that was on its way."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *both)
    coordinator.proven_dead("a", cluster.now)
    with pytest.raises(RunnerEnded):
        coordinator.renew(both[0].renewal(), cluster.now)


def test_a_silent_runner_keeps_its_shards_until_its_lease_and_the_drift_have_passed() -> None:
    """One moment before, nothing is taken; then its entry goes, and only then its shards go to the other."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, silent, heir)
    cluster.pass_time(3.0, coordinator, heir)
    cluster.now = LEASE_ENDS - 0.01
    coordinator.tick(cluster.now)
    assert coordinator.roster_writes() == []
    cluster.now = LEASE_ENDS
    assert not silent.valid(cluster.now)
    coordinator.tick(cluster.now)
    assert coordinator.roster_writes() == [RosterWrite("a", None)]
    cluster.renew(heir, coordinator)
    assert not heir.grants.keys() & silent.grants.keys()
    cluster.write_roster(coordinator)
    cluster.renew(heir, coordinator)
    assert heir.grants.keys() == set(SHARDS)
    assert [(view.runner_id, view.healthy) for view in coordinator.runners()] == [("a", False), ("b", True)]


def test_a_runner_that_comes_back_too_late_loses_what_it_had() -> None:
    """It is told that it holds nothing, and gets shards back under new epochs by ordinary handoff."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, silent, heir)
    had = dict(silent.grants)
    cluster.pass_time(4.0, coordinator, heir)
    assert heir.grants.keys() == set(SHARDS)
    assert cluster.renew(silent, coordinator).revoked == had
    cluster.serve(coordinator, silent, heir)
    assert silent.grants.keys() == had.keys()
    assert all(silent.grants[shard] > heir_epoch for shard, heir_epoch in had.items())


def test_a_runner_that_comes_and_goes_waits_longer_each_time() -> None:
    """Its share would move twice each time: after the first loss it gets it back at once, then after 2 leases, 4, 8."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    steady, flapping = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, steady, flapping)
    share = set(flapping.grants)
    for leases in (0, 2, 4, 8):
        cluster.pass_time(2 * CONFIG.lease_s, coordinator, steady)
        assert steady.grants.keys() == set(SHARDS)
        cluster.serve(coordinator, steady, flapping)
        if leases:
            cluster.pass_time(leases * CONFIG.lease_s - 0.25, coordinator, steady, flapping)
            assert flapping.grants == {}
            assert flapping.valid(cluster.now)
            cluster.pass_time(0.25, coordinator, steady, flapping)
        assert flapping.grants.keys() == share
    cluster.pass_time(CONFIG.forget_s, coordinator, steady, flapping)
    cluster.pass_time(2 * CONFIG.lease_s, coordinator, steady)
    cluster.serve(coordinator, steady, flapping)
    assert flapping.grants.keys() == share  # what was long ago is forgotten


def test_a_runner_that_comes_and_goes_does_not_wait_when_it_is_needed() -> None:
    """Without anybody else it gets the shards at once, and if the others go while it waits, soon."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    steady, flapping = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, steady, flapping)
    for _ in range(2):
        cluster.pass_time(2 * CONFIG.lease_s, coordinator, steady)
        cluster.serve(coordinator, steady, flapping)
    assert flapping.grants == {}
    coordinator.proven_dead("a", cluster.now)
    cluster.write_roster(coordinator)
    cluster.serve(coordinator, flapping)
    assert flapping.grants.keys() == set(SHARDS)


def test_a_silent_runner_without_an_heir_resumes() -> None:
    """With nobody to give its shards to, they stay its own however long it was silent."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    coordinator = cluster.coordinator()
    only = cluster.runner("a")
    cluster.serve(coordinator, only)
    cluster.pass_time(30.0, coordinator)
    assert not only.valid(cluster.now)
    change = cluster.renew(only, coordinator)
    assert change.resumed
    assert not change.revoked
    assert served_by(only, cluster.now) == set(SHARDS)


def test_after_its_own_pause_a_coordinator_gives_runners_a_whole_lease_to_be_heard() -> None:
    """It was the one that was silent: the first runner to renew does not inherit all the others' shards."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *both)
    cluster.now = 60.0
    cluster.leaderships[coordinator].confirm(cluster.now)
    cluster.renew(both[0], coordinator)
    coordinator.tick(cluster.now)
    assert coordinator.roster_writes() == []
    cluster.renew(both[1], coordinator)
    assert served_by(both[0], 60.0) | served_by(both[1], 60.0) == set(SHARDS)


def test_draining_a_node_moves_its_shards_and_gives_it_no_more() -> None:
    """Until draining ends, when it takes its share again."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    drained, other = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, drained, other)
    share = len(drained.grants)
    coordinator.drain("node-of-a", cluster.now)
    cluster.serve(coordinator, drained, other)
    assert drained.grants == {}
    assert other.grants.keys() == set(SHARDS)
    assert drained.draining
    assert [(view.draining, view.shards) for view in coordinator.runners()] == [(True, 0), (False, 12)]
    assert {handoff.reason for handoff in coordinator.drain_handoffs()} == {"drain"}
    coordinator.drain("node-of-a", cluster.now, draining=False)
    cluster.serve(coordinator, drained, other)
    assert len(drained.grants) == share


def test_the_next_term_learns_from_the_runner_that_its_node_drains() -> None:
    """The coordinator that was told may be dead."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    drained, other = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, drained, other)
    old.drain("node-of-a", cluster.now)
    cluster.renew(drained, old)
    new = cluster.coordinator()
    cluster.serve(new, drained, other)
    assert other.grants.keys() == set(SHARDS)


def test_a_runner_that_leaves_hands_its_shards_over() -> None:
    """With reason `leave`; if it dies before it let go, the outcome is an error."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    leaver, other = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, leaver, other)
    leaver.leave()
    asked = cluster.renew(leaver, coordinator).to_release
    assert asked == leaver.grants.keys()
    first = min(asked)
    leaver.released(first)
    cluster.renew(leaver, coordinator)
    coordinator.proven_dead("a", cluster.now)
    cluster.serve(coordinator, other)
    handoffs = {handoff.shard: (handoff.reason, handoff.outcome) for handoff in coordinator.drain_handoffs()}
    assert handoffs == {shard: ("leave", "ok" if shard == first else "error") for shard in asked}


def test_a_repeated_word_about_an_earlier_grant_does_not_end_a_later_one() -> None:
    """A renewal that says "let go" and arrives again after the shard was granted anew changes nothing."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    coordinator = cluster.coordinator()
    runner = cluster.runner("a")
    cluster.serve(coordinator, runner)
    runner.released(SHARDS[0])
    late = runner.renewal()
    cluster.renew(runner, coordinator)
    again = runner.owns(SHARDS[0])
    assert again == Epoch(1, 13)
    coordinator.renew(late, cluster.now)
    cluster.renew(runner, coordinator)
    assert runner.owns(SHARDS[0]) == again


# -- one term after another


def test_a_new_term_leaves_every_shard_where_it_is_at_once() -> None:
    """With no time passing, the runners acknowledge and go on under the same epochs; then it can grant."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, *both)
    before = [dict(runner.grants) for runner in both]
    new = cluster.coordinator()
    assert not new.settled
    assert new.awaited().keys() == {"a", "b"}
    cluster.serve(new, *both)
    assert new.awaited() == {}
    assert [runner.grants for runner in both] == before
    assert [runner.term for runner in both] == [2, 2]


def test_a_new_term_grants_nothing_while_a_runner_of_the_roster_may_obey_the_old_one() -> None:
    """Its silence counts for as long as the old leadership and its last lease can last, not a moment less."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, silent, heir)
    new = cluster.coordinator()
    late_answer = old.renew(silent.renewal(), 0.99)  # the old one still leads, and lends a last lease
    silent.apply(late_answer, 0.99, 0.99)
    cluster.pass_time(OLD_LEASES_END - 0.01, new, heir)
    assert new.awaited().keys() == {"a"}
    assert new.roster_writes() == []
    assert not silent.valid(cluster.now)
    cluster.now = OLD_LEASES_END
    cluster.serve(new, heir)
    assert heir.grants.keys() == set(SHARDS)
    assert cluster.roster.entries().keys() == {"b"}


def test_proof_of_death_ends_the_wait_of_a_new_term() -> None:
    """The edge can look after the processes named by `awaited`."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    dead, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, dead, heir)
    new = cluster.coordinator()
    assert new.awaited()["a"].pid == 7
    new.proven_dead("a", cluster.now)
    cluster.serve(new, heir)
    assert heir.grants.keys() == set(SHARDS)


def test_a_new_term_does_not_grant_before_the_silent_runner_is_off_the_roster() -> None:
    """Else the term after it would take the silent runner's report for good."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, silent, heir)
    new = cluster.coordinator()
    cluster.pass_time(OLD_LEASES_END - 0.01, new, heir)
    cluster.now = OLD_LEASES_END
    new.tick(cluster.now)
    # The silent one comes back just now: its report is void, and its return does not open the way either.
    for _ in range(2):
        cluster.renew(silent, new)
    cluster.renew(heir, new)
    assert silent.grants == {}
    assert not new.settled
    assert len(heir.grants) < len(SHARDS)
    cluster.serve(new, silent, heir)
    assert silent.grants.keys() | heir.grants.keys() == set(SHARDS)


def test_what_was_taken_from_a_runner_is_not_believed_by_the_next_term() -> None:
    """It came back, was entered again, but never heard that it had lost its shards: `since` tells."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, silent, heir)
    had = dict(silent.grants)
    cluster.pass_time(4.0, old, heir)
    old.renew(silent.renewal(), cluster.now)  # the answer is lost
    cluster.write_roster(old)
    assert cluster.roster.entries()["a"].since > max(had.values())
    new = cluster.coordinator()
    cluster.renew(silent, new)
    assert cluster.renew(silent, new).revoked == had


def test_what_a_runner_that_is_not_on_the_roster_reports_is_void() -> None:
    """It was taken off before its shards went to others."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    silent, heir = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, silent, heir)
    had = dict(silent.grants)
    cluster.pass_time(4.0, old, heir)
    new = cluster.coordinator()
    cluster.renew(silent, new)
    assert cluster.renew(silent, new).revoked == had


def test_an_expired_runner_resumes_under_a_new_term_when_nothing_was_taken_from_it() -> None:
    """A long outage of the coordinator suspends; it does not lose what runners have in memory."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(old, *both)
    before = [dict(runner.grants) for runner in both]
    cluster.now = 100.0
    assert not both[0].valid(cluster.now)
    new = cluster.coordinator()
    cluster.serve(new, *both)
    assert [runner.grants for runner in both] == before
    assert both[0].valid(cluster.now)


def test_a_report_that_arrives_again_is_old_news() -> None:
    """The first renewal under a term is believed; a copy that comes later does not bring shards back."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    old = cluster.coordinator()
    holder = cluster.runner("a")
    cluster.serve(old, holder)
    new = cluster.coordinator()
    cluster.renew(holder, new)
    report = holder.renewal()
    cluster.serve(new, holder)
    other = cluster.runner("b")
    cluster.serve(new, holder, other)
    moved = dict(other.grants)
    assert moved
    assert new.renew(report, cluster.now).grants == holder.grants
    cluster.serve(new, holder, other)
    assert other.grants == moved


def test_a_coordinator_below_the_highest_term_refuses_to_answer() -> None:
    """Once it has asked the store, or once a runner names the higher term, whichever is first."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    runner = cluster.runner("a")
    cluster.serve(old, runner)
    new = cluster.coordinator()
    cluster.renew(runner, new)
    with pytest.raises(NotLeading, match="term 2"):
        old.renew(runner.renewal(), cluster.now)
    with pytest.raises(NotLeading):
        old.renew(cluster.runner("b").renewal(), cluster.now)


def test_without_leadership_nothing_is_answered_or_changed() -> None:
    """Renew, tick, drain, groups and roster words all raise; a proof of death is taken in all the same."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *both)
    cluster.now = 2.0
    version = coordinator.version
    with pytest.raises(NotLeading):
        coordinator.renew(both[0].renewal(), cluster.now)
    with pytest.raises(NotLeading):
        coordinator.tick(cluster.now)
    with pytest.raises(NotLeading):
        coordinator.drain("node-of-a", cluster.now)
    with pytest.raises(NotLeading):
        coordinator.add_group("gpu", cluster.now)
    with pytest.raises(NotLeading):
        coordinator.roster_written([], cluster.now)
    assert coordinator.version == version
    coordinator.proven_dead("a", cluster.now)
    cluster.leaderships[coordinator].confirm(cluster.now)
    cluster.serve(coordinator, both[1])
    assert both[1].grants.keys() == set(SHARDS)


def test_a_group_that_only_runners_remember_is_known_again() -> None:
    """A new term learns it from the reports, with all its shards."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    both = cluster.runner("a"), cluster.runner("b")
    old.add_group("gpu", cluster.now)
    cluster.serve(old, *both)
    assert sum(len(runner.grants) for runner in both) == 24
    new = cluster.coordinator()
    cluster.serve(new, *both)
    routes = new.routes()
    assert routes is not None
    assert len(routes.owners) == 24
    assert new.routes(routes.version) is None


def test_no_version_of_routes_is_that_of_another_term() -> None:
    """A sender that knows the routes of the last term is told those of the new one, however often both changed."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    old, runner = cluster.coordinator(), cluster.runner("a")
    cluster.serve(old, runner)
    known = {old.version}
    for name in ("b", "c", "d"):
        cluster.serve(old, runner, cluster.runner(name))
        known.add(old.version)
    new = cluster.coordinator()
    for _ in range(4 * max(len(known), 4)):
        assert all(new.routes(version) is not None for version in known)
        new._ledger.touch("a")


def test_weights_decide_shares_and_bad_ones_are_refused() -> None:
    """A renewal with a weight of zero is a mistake in the program."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    light, heavy = cluster.runner("a"), cluster.runner("b")
    heavy.weight = 3.0
    cluster.serve(coordinator, light, heavy)
    assert set(light.grants) == {s for s, o in assign(SHARDS, {"a": 1.0, "b": 3.0}).items() if o == "a"}
    light.weight = 0.0
    with pytest.raises(ValueError, match="weight"):
        coordinator.renew(light.renewal(), cluster.now)


def test_what_is_kept_about_lost_runners_is_bounded() -> None:
    """After `forget_s` a runner that was silent, and the memory of one that died, are gone."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    silent, dead, heir = (cluster.runner(name) for name in "abc")
    cluster.serve(coordinator, silent, dead, heir)
    coordinator.proven_dead("b", cluster.now)
    cluster.pass_time(CONFIG.forget_s + LEASE_ENDS + 0.25, coordinator, heir)
    assert [view.runner_id for view in coordinator.runners()] == ["c"]
    assert len(coordinator._ended) == 0
    assert coordinator._ledger._versions.keys() == coordinator._ledger._grants.keys() == {"c"}


def test_the_next_deadline_is_when_a_tick_finds_something() -> None:
    """First the end of the wait for expected runners, then the earliest end of a lease."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    assert coordinator.next_deadline() == CONFIG.first_grant_wait_s
    both = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, *both)
    assert coordinator.next_deadline() == LEASE_ENDS
    new = cluster.coordinator()
    assert new.next_deadline() == pytest.approx(min(OLD_LEASES_END, CONFIG.first_grant_wait_s), abs=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"guard_s": 3.0},
        {"lease_s": float("inf")},
        {"drift_s": -0.1},
        {"shards_per_group": 0},
        {"expected_runners": 0},
        {"max_moving_shards": 0},
    ],
)
def test_unsound_figures_are_refused(fields: dict[str, float]) -> None:
    """ValueError names the field."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        dataclasses.replace(CONFIG, **fields)  # type: ignore[arg-type]  # wrong on purpose


def test_every_runner_hears_of_a_singleton_once() -> None:
    """Those that live at once, those that come later with their first shards; told again it is no news."""
    cluster = SmallCluster(dataclasses.replace(CONFIG, expected_runners=1))
    coordinator, runner = cluster.coordinator(), cluster.runner("a")
    cluster.serve(coordinator, runner)
    assert not coordinator.has_news(runner.renewal())
    coordinator.keep("Clock", "default", cluster.now)
    assert coordinator.singletons == ["Clock"]
    assert coordinator.has_news(runner.renewal())
    lease = coordinator.renew(runner.renewal(), cluster.now)
    assert lease.singletons == {"Clock": "default"}
    runner.apply(lease, cluster.now, cluster.now)
    coordinator.keep("Clock", "default", cluster.now)
    assert not coordinator.has_news(runner.renewal())
    assert coordinator.renew(runner.renewal(), cluster.now).singletons is None
    late = cluster.runner("b")
    cluster.renew(late, coordinator)
    told = []
    while not late.grants:
        cluster.serve(coordinator, runner)
        cluster.write_roster(coordinator)
        lease = coordinator.renew(late.renewal(), cluster.now)
        told.append((bool(lease.grants), lease.singletons))
        late.apply(lease, cluster.now, cluster.now)
        assert len(told) < 20
    assert told[-1] == (True, {"Clock": "default"})


def test_every_runner_hears_of_replaced_code() -> None:
    """Who lives at once, who comes back from silence, and all of them of a new term; new types are no news."""
    cluster = SmallCluster()
    coordinator, runner, silent = cluster.coordinator(), cluster.runner("a"), cluster.runner("b")
    coordinator.ship("Clock", "d1", cluster.now)
    cluster.serve(coordinator, runner, silent)
    coordinator.ship("Clock", "d1", cluster.now)
    coordinator.ship("Bell", "d7", cluster.now)
    assert not coordinator.has_news(runner.renewal())

    cluster.pass_time(CONFIG.lease_s + 1.0, coordinator, runner)
    coordinator.ship("Clock", "d2", cluster.now)
    for told in (runner, silent):
        assert coordinator.has_news(told.renewal())
        lease = coordinator.renew(told.renewal(), cluster.now)
        assert lease.codes == {"Clock": "d2", "Bell": "d7"}
        told.apply(lease, cluster.now, cluster.now)
    cluster.serve(coordinator, runner, silent)
    assert coordinator.renew(runner.renewal(), cluster.now).codes is None

    successor = cluster.coordinator()
    successor.ship("Clock", "d3", cluster.now)
    cluster.renew(runner, successor)  # hears of the term
    assert successor.renew(runner.renewal(), cluster.now).codes == {"Clock": "d3"}
