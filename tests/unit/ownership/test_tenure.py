"""Which answers a runner obeys, and what they change."""

from __future__ import annotations

import pickle

from cluster_app.grants import Epoch, Lease
from cluster_app.shard import ShardId
from cluster_app.tenure import Tenure, TenureChange

A, B, C = (ShardId("default", number) for number in range(3))
E1, E2, E3 = (Epoch(1, number) for number in (1, 2, 3))


def lease(
    version: int,
    grants: dict[ShardId, Epoch] | None,
    *,
    term: int = 1,
    lease_s: float = 3.0,
    release: frozenset[ShardId] = frozenset(),
) -> Lease:
    """An answer of term 1 with a lease of three seconds, unless told otherwise."""
    return Lease(term, lease_s, version, grants, release)


def serving(grants: dict[ShardId, Epoch]) -> Tenure:
    """A runner that has sent a renewal at 10 and got these grants as version 5 of term 1."""
    tenure = Tenure("runner-1", "node-1", guard_s=0.1)
    tenure.apply(lease(0, None, lease_s=0.0), 10.0, 10.0)
    tenure.apply(lease(5, grants), 10.0, 10.0)
    return tenure


def test_a_fresh_runner_serves_nothing_and_reports_that_it_holds_nothing() -> None:
    """Before the first answer there is no lease, and the report is empty but complete."""
    tenure = Tenure("runner-1", "node-1", guard_s=0.1, pid=42, weight=2.0)
    renewal = tenure.renewal()
    assert not tenure.valid(0.0)
    assert (renewal.term, renewal.version, renewal.holding, renewal.released) == (0, 0, {}, {})
    assert (renewal.runner_id, renewal.node_id, renewal.pid, renewal.weight) == (
        "runner-1",
        "node-1",
        42,
        2.0,
    )


def test_the_lease_ends_a_guard_before_its_length_after_the_renewal_was_sent() -> None:
    """Not counted from when the answer came: sent at 10, three seconds less 0.1."""
    tenure = Tenure("runner-1", "node-1", guard_s=0.5)
    tenure.apply(lease(0, None, lease_s=0.0), 10.0, 10.0)
    change = tenure.apply(lease(1, {A: E1}), 10.0, 12.25)
    assert change == TenureChange(granted={A: E1}, resumed=True)
    assert tenure.serves(A, 12.49) == E1
    assert tenure.serves(A, 12.5) is None
    assert tenure.owns(A) == E1


def test_an_answer_of_a_lower_term_is_refused() -> None:
    """The fence: whatever an old coordinator still says changes nothing, not even the end of the lease."""
    tenure = serving({A: E1})
    tenure.apply(lease(0, None, term=2, lease_s=0.0), 11.0, 11.0)
    end = tenure.lease_end
    assert tenure.apply(lease(99, {B: E2}), 12.0, 12.0) == TenureChange(stale=True)
    assert tenure.grants == {A: E1}
    assert (tenure.term, tenure.lease_end) == (2, end)


def test_a_higher_term_keeps_the_shards_and_asks_for_a_full_report() -> None:
    """What is left of the lease still counts; the next renewal acknowledges the term with all it holds."""
    tenure = serving({A: E1})
    end = tenure.lease_end
    change = tenure.apply(lease(0, None, term=2, lease_s=0.0), 11.0, 11.0)
    assert change == TenureChange(renew_at_once=True)
    assert tenure.lease_end == end
    assert (tenure.renewal().term, tenure.renewal().version, tenure.renewal().holding) == (2, 0, {A: E1})


def test_grants_in_an_answer_that_tells_a_higher_term_are_not_obeyed() -> None:
    """They answer a report that was never made."""
    tenure = serving({A: E1})
    tenure.apply(lease(3, {B: Epoch(2, 1)}, term=2), 11.0, 11.0)
    assert tenure.grants == {A: E1}


def test_the_report_stops_once_an_answer_of_the_term_was_applied() -> None:
    """From then on the coordinator knows."""
    assert serving({A: E1}).renewal().holding is None


def test_an_older_answer_of_the_same_term_is_refused() -> None:
    """Answers can overtake each other: the one with the lower version is old news."""
    tenure = serving({A: E1})
    tenure.apply(lease(7, {B: E2}), 11.0, 11.0)
    assert tenure.apply(lease(6, {A: E1, B: E2}), 12.0, 12.0).stale
    assert tenure.grants == {B: E2}


def test_an_answer_to_an_earlier_renewal_does_not_shorten_the_lease() -> None:
    """Its version may be the newest while its renewal was sent before."""
    tenure = serving({A: E1})
    tenure.apply(lease(6, None), 12.0, 12.0)
    tenure.apply(lease(7, {B: E2}), 11.0, 12.5)
    assert tenure.serves(B, 14.8) == E2


def test_the_same_epoch_renewed_after_the_lease_ended_resumes() -> None:
    """Nothing is granted or revoked: what was suspended goes on."""
    tenure = serving({A: E1})
    assert tenure.serves(A, 20.0) is None
    assert tenure.apply(lease(5, None), 20.0, 20.0) == TenureChange(resumed=True)
    assert tenure.serves(A, 20.0) == E1


def test_a_missing_shard_is_revoked_and_another_epoch_ends_the_old_one() -> None:
    """A shard under a new epoch is both revoked and granted; one that stays is neither."""
    tenure = serving({A: E1, B: E1, C: E2})
    change = tenure.apply(lease(6, {B: E3, C: E2}), 11.0, 11.0)
    assert change == TenureChange(granted={B: E3}, revoked={A: E1, B: E1})
    assert tenure.grants == {B: E3, C: E2}


def test_a_shard_is_asked_back_once_per_epoch() -> None:
    """Repeating the answer asks for nothing; a new grant of the same shard can be asked back again."""
    tenure = serving({A: E1, B: E1})
    asked = frozenset({A})
    assert tenure.apply(lease(6, {A: E1, B: E1}, release=asked), 11.0, 11.0).to_release == asked
    assert tenure.apply(lease(6, {A: E1, B: E1}, release=asked), 11.0, 11.0).to_release == frozenset()
    assert tenure.apply(lease(7, {A: E3}, release=asked), 11.0, 11.0).to_release == asked
    assert tenure.apply(lease(8, {A: E3}, release=frozenset({B})), 11.0, 11.0).to_release == frozenset()


def test_a_shard_let_go_is_told_until_it_was_heard_and_never_comes_back_by_itself() -> None:
    """An answer that still lists it under the epoch let go is from before; one that does not has heard."""
    tenure = serving({A: E1, B: E1})
    tenure.released(A)
    assert tenure.owns(A) is None
    assert tenure.renewal().released == {A: E1}
    assert tenure.apply(lease(6, {A: E1, B: E1}), 11.0, 11.0) == TenureChange()
    assert tenure.grants == {B: E1}
    assert tenure.renewal().released == {A: E1}
    tenure.apply(lease(7, {B: E1}), 11.0, 11.0)
    assert tenure.renewal().released == {}


def test_a_shard_let_go_and_granted_again_is_a_new_grant() -> None:
    """The new epoch tells the two apart."""
    tenure = serving({A: E1})
    tenure.released(A)
    assert tenure.apply(lease(6, {A: E3}), 11.0, 11.0).granted == {A: E3}
    assert tenure.renewal().released == {}


def test_a_shard_let_go_is_not_in_the_report_to_a_new_term() -> None:
    """It would come back otherwise."""
    tenure = serving({A: E1, B: E1})
    tenure.released(A)
    tenure.apply(lease(0, None, term=2, lease_s=0.0), 11.0, 11.0)
    assert tenure.renewal().holding == {B: E1}


def test_letting_go_what_is_not_held_is_nothing() -> None:
    """It may have been revoked in between."""
    tenure = serving({A: E1})
    tenure.released(B)
    assert tenure.renewal().released == {}


def test_a_renewal_does_not_change_after_it_was_made() -> None:
    """A transport may keep it by reference."""
    tenure = serving({A: E1, B: E1})
    tenure.apply(lease(0, None, term=2, lease_s=0.0), 11.0, 11.0)
    tenure.released(A)
    renewal = tenure.renewal()
    tenure.released(B)
    assert (renewal.holding, renewal.released) == ({B: E1}, {A: E1})


def test_what_travels_survives_pickle() -> None:
    """Renewals and leases are plain values."""
    tenure = serving({A: E1})
    tenure.leave()
    assert pickle.loads(pickle.dumps(tenure.renewal())) == tenure.renewal()
    assert tenure.renewal().leaving
    answer = lease(6, {A: E1}, release=frozenset({A}))
    assert pickle.loads(pickle.dumps(answer)) == answer
    assert str(E2) == "1.2"
