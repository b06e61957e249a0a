"""Ends of processes: each runner hears of each once, until it says that it has."""

from __future__ import annotations

from cluster_app.ended_processes import EndedProcesses
from cluster_app.envelope import Codec
from cluster_app.exchange import Parcel, Request
from cluster_app.inbound_lanes import InboundLanes
from tests.unit.ownership.small_cluster import CONFIG, SmallCluster


def test_a_renewal_at_rest_names_no_process_that_has_ended() -> None:
    """What a runner has heard of is not told again, however many have ended."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    runner = cluster.runner("a")
    cluster.serve(coordinator, runner)
    for number in range(5):
        coordinator.proven_dead(f"driver-{number}", cluster.now)
    told = coordinator.renew(runner.renewal(), cluster.now)
    assert told.ended == {f"driver-{number}" for number in range(5)}
    runner.apply(told, cluster.now, cluster.now)
    assert coordinator.renew(runner.renewal(), cluster.now).ended == frozenset()
    coordinator.proven_dead("driver-5", cluster.now)
    assert coordinator.renew(runner.renewal(), cluster.now).ended == {"driver-5"}


def test_an_end_is_told_again_until_an_answer_that_tells_it_was_applied() -> None:
    """Answers get lost; so does what an answer of an older term says, and each term counts for itself."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    runner, other = cluster.runner("a"), cluster.runner("b")
    cluster.serve(coordinator, runner, other)
    coordinator.proven_dead("driver", cluster.now)
    for _ in range(2):  # neither arrives
        assert coordinator.renew(runner.renewal(), cluster.now).ended == {"driver"}
    cluster.renew(runner, coordinator)
    assert coordinator.renew(runner.renewal(), cluster.now).ended == frozenset()
    assert coordinator.renew(other.renewal(), cluster.now).ended == {"driver"}

    cluster.now += 30.0
    successor = cluster.coordinator()
    successor.proven_dead("a late driver", cluster.now)
    cluster.renew(runner, successor)  # tells it the term
    assert successor.renew(runner.renewal(), cluster.now).ended == {"a late driver"}


def test_of_many_ends_the_last_are_told_and_old_ones_are_forgotten() -> None:
    """An answer is bounded, and so is what a coordinator remembers; a second word about an end is no news."""
    ended = EndedProcesses(remembered_s=10.0)
    for number in range(1_500):
        ended.add(str(number), now=number / 1_500)
    assert ended.since(0) == {str(number) for number in range(500, 1_500)}
    assert ended.since(1_498) == {"1498", "1499"}
    ended.add("3", now=5.0)
    assert ended.number == 1_500 and ended.since(1_500) == frozenset()
    ended.forget(now=10.5)
    assert "3" not in ended and len(ended) == 749
    assert ended.since(0) == {str(number) for number in range(751, 1_500)}
    ended.forget(now=CONFIG.forget_s + 20.0)
    assert len(ended) == 0 and ended.since(0) == frozenset()


def test_what_was_on_its_way_from_an_ended_process_begins_no_lane_that_stays() -> None:
    """Its end is told once, and its first frame may come after that."""
    lanes = InboundLanes(Codec(), 60.0, lambda delivery: None)
    lanes.ended(["driver"])
    late = Request("driver", 0, Parcel(0, b""), 0)
    living = Request("another", 0, Parcel(0, b""), 0)
    assert lanes.begin(late) is not None and lanes.begin(living) is not None
    lanes.sweep(0.0, leaving=False)
    assert list(lanes) == [("another", 0)]
    assert lanes.begin(late) is None
