"""The wished-for owner of each shard: pinned, balanced, minimal in movement, the same however reached."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_app.shard import ShardId, shards_of
from cluster_app.shard_map import ShardMap, assign, owner

SHARDS = shards_of("default", 60)
names = st.text(alphabet="abcdef0123456789-", min_size=1, max_size=6)
clusters = st.dictionaries(names, st.sampled_from([0.5, 1.0, 1.0, 2.0, 7.25]), min_size=1, max_size=8)


def test_owners_are_pinned() -> None:
    """A version that scored differently would move shards for nothing as it takes over: they never change."""
    equal = {"runner-a": 1.0, "runner-b": 1.0, "runner-c": 1.0}
    heavier = equal | {"runner-b": 2.0}
    first = [ShardId("default", number) for number in range(20)]
    assert "".join(owner(shard, equal)[-1] for shard in first) == "cacaaababbcbababcabb"
    assert "".join(owner(shard, heavier)[-1] for shard in first) == "cbbabababbcbbbbbcabb"


@given(cluster=clusters, newcomer=names, weight=st.sampled_from([0.5, 1.0, 3.0]))
def test_a_runner_that_joins_takes_shards_only_for_itself(
    cluster: dict[str, float], newcomer: str, weight: float
) -> None:
    """Between runners that stay, nothing moves; and leaving again undoes the joining exactly."""
    cluster.pop(newcomer, None)
    if not cluster:
        return
    before = assign(SHARDS, cluster)
    after = assign(SHARDS, cluster | {newcomer: weight})
    assert all(after[shard] in (before[shard], newcomer) for shard in SHARDS)


@given(cluster=clusters, factor=st.sampled_from([1.5, 4.0]))
def test_a_runner_that_grows_loses_nothing(cluster: dict[str, float], factor: float) -> None:
    """More weight only adds shards to a runner, and moves none between the others."""
    grown = min(cluster)
    before = assign(SHARDS, cluster)
    after = assign(SHARDS, cluster | {grown: cluster[grown] * factor})
    assert all(after[shard] in (before[shard], grown) for shard in SHARDS)


@settings(max_examples=60, deadline=None)
@given(history=st.lists(clusters, min_size=1, max_size=6), late=st.integers(0, 60))
def test_the_incremental_map_equals_one_computed_afresh(history: list[dict[str, float]], late: int) -> None:
    """Through joins, leaves, weight changes and late groups; and it names exactly the shards that moved."""
    shard_map = ShardMap()
    shard_map.add(SHARDS[:late])
    for runners in history:
        before = {shard: shard_map.owner_of(shard) for shard in SHARDS[:late]}
        shard_map.set_runners(runners)
        moved = shard_map.settle()
        after = {shard: shard_map.owner_of(shard) for shard in SHARDS[:late]}
        assert set(moved) == {shard for shard in before if before[shard] != after[shard]}
        assert len(moved) == len(set(moved))
    shard_map.add(SHARDS)
    assert {shard: shard_map.owner_of(shard) for shard in SHARDS} == assign(SHARDS, history[-1])


@settings(max_examples=60, deadline=None)
@given(history=st.lists(clusters, min_size=1, max_size=6), most=st.integers(1, 40))
def test_work_that_is_put_off_comes_to_the_same(history: list[dict[str, float]], most: int) -> None:
    """Changes while much is still to be scored: in the end the owners are those computed afresh, and all that moved was
    named, some of it more than once.
    """
    shard_map = ShardMap()
    shard_map.add(SHARDS)
    named: set[ShardId] = set()
    for runners in history:
        shard_map.set_runners(runners)
        named |= set(shard_map.settle(most))
    rounds = 0
    while shard_map.behind:
        named |= set(shard_map.settle(most))
        rounds += 1
    assert rounds <= len(SHARDS) + len(history[-1])
    assert {shard: shard_map.owner_of(shard) for shard in SHARDS} == assign(SHARDS, history[-1])
    assert named == set(SHARDS)
    assert shard_map.settle() == []


def test_a_slice_of_work_is_no_larger_than_asked() -> None:
    """But for the one shard, or the one newcomer, that was begun; a shard that somebody asks for is not put off."""
    shard_map = ShardMap()
    shard_map.add(SHARDS)
    shard_map.set_runners({f"runner-{number}": 1.0 for number in range(10)})
    assert shard_map.scored == 0
    assert len(shard_map.settle(100)) == 10
    assert shard_map.scored == 100
    assert shard_map.owner_of(SHARDS[-1]) == owner(SHARDS[-1], shard_map.runners)
    assert shard_map.scored == 110
    assert len(shard_map.settle()) == 50
    assert shard_map.scored == 600
    shard_map.set_runners(dict(shard_map.runners) | {"a": 1.0, "b": 1.0})
    shard_map.settle(1)
    assert shard_map.scored == 660
    assert shard_map.behind
    shard_map.settle()
    assert shard_map.scored == 720


def test_runners_that_go_are_followed_without_scoring() -> None:
    """The runner-up has won; only where that is gone as well, all others are scored."""
    shards = shards_of("default", 2000)
    runners = {f"runner-{number}": 1.0 for number in range(20)}
    shard_map = ShardMap()
    shard_map.add(shards)
    shard_map.set_runners(runners)
    shard_map.settle()
    before = shard_map.scored
    del runners["runner-0"]
    shard_map.set_runners(runners)
    moved = len(shard_map.settle())
    assert moved > 50
    assert shard_map.scored == before
    for number in range(1, 4):
        del runners[f"runner-{number}"]
        shard_map.set_runners(runners)
        moved += len(shard_map.settle())
    assert 0 < shard_map.scored - before < 20 * moved / 3
    assert {shard: shard_map.owner_of(shard) for shard in shards} == assign(shards, runners)


def test_order_of_mention_does_not_matter() -> None:
    """The owner depends on the runners, not on the order in which they are listed."""
    runners = {f"runner-{number}": 1.0 + number % 3 for number in range(9)}
    backwards = dict(reversed(runners.items()))
    assert assign(SHARDS, runners) == assign(reversed(SHARDS), backwards)


def test_shares_are_in_proportion_to_weights() -> None:
    """With weights 1, 1, 2 and 4, each share of 16,000 shards is within four standard deviations of due."""
    runners = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0}
    counts = Counter(assign(shards_of("default", 16_000), runners).values())
    for name, weight in runners.items():
        due = 16_000 * weight / 8
        assert abs(counts[name] - due) < 4 * math.sqrt(due * (1 - weight / 8))


def test_a_lost_runners_shards_spread_over_all_others() -> None:
    """The heirs of one runner's shards are as balanced as the shards were: no neighbour gets them all."""
    runners = {f"runner-{number}": 1.0 for number in range(11)}
    shards = shards_of("default", 11_000)
    before = assign(shards, runners)
    del runners["runner-3"]
    after = assign(shards, runners)
    heirs = Counter(after[shard] for shard in shards if before[shard] == "runner-3")
    due = sum(heirs.values()) / 10
    assert len(heirs) == 10
    assert (
        sum((count - due) ** 2 / due for count in heirs.values()) < 27.9
    )  # chi-square, 9 degrees, 1 in 1000


def test_without_runners_there_is_no_owner() -> None:
    """The functions raise; the map knows no owner."""
    with pytest.raises(ValueError, match="no runner"):
        owner(SHARDS[0], {})
    with pytest.raises(ValueError, match="no runner"):
        assign(SHARDS, {})
    shard_map = ShardMap()
    shard_map.add(SHARDS)
    assert shard_map.owner_of(SHARDS[0]) is None


def test_when_the_last_runner_goes_every_shard_moves_to_nobody() -> None:
    """And back, when a runner comes again."""
    shard_map = ShardMap()
    shard_map.add(SHARDS)
    shard_map.set_runners({"a": 1.0})
    assert shard_map.settle() == list(SHARDS)
    shard_map.set_runners({})
    assert shard_map.settle() == list(SHARDS)
    assert shard_map.owner_of(SHARDS[0]) is None
    shard_map.set_runners({"b": 1.0})
    assert shard_map.settle() == list(SHARDS)


@pytest.mark.parametrize("runners", [{"a": 0.0}, {"a": -1.0}, {"a": math.nan}, {"a": math.inf}, {"": 1.0}])
def test_a_bad_runner_is_refused_and_changes_nothing(runners: dict[str, float]) -> None:
    """ValueError, and the map still has the runners it had."""
    shard_map = ShardMap()
    shard_map.add(SHARDS)
    shard_map.set_runners({"b": 1.0})
    with pytest.raises(ValueError, match="runner"):
        shard_map.set_runners(runners)
    assert shard_map.runners == {"b": 1.0}
    assert shard_map.owner_of(SHARDS[0]) == "b"
