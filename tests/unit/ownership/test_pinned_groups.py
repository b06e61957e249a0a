"""Shard groups that only some runners may serve, on the pure coordinator."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_app.coordinator import Coordinator
from cluster_app.shard import ShardId, shards_of
from cluster_app.shard_map import assign
from cluster_app.tenure import Tenure
from tests.unit.ownership.small_cluster import CONFIG, SHARDS, SmallCluster

PINNED = dataclasses.replace(CONFIG, pinned_groups=frozenset({"gpu", "tiles"}))
GPU = shards_of("gpu", CONFIG.shards_per_group)
TILES = shards_of("tiles", CONFIG.shards_per_group)


def begun() -> tuple[SmallCluster, Coordinator]:
    """A coordinator that knows both pinned groups."""
    cluster = SmallCluster(PINNED)
    coordinator = cluster.coordinator()
    for group in ("gpu", "tiles"):
        coordinator.add_group(group, cluster.now)
    return cluster, coordinator


def held(*runners: Tenure) -> dict[ShardId, str]:
    """Who has what."""
    return {shard: runner.runner_id for runner in runners for shard in runner.grants}


def test_a_pinned_groups_shards_are_only_where_they_may_be() -> None:
    """Spread over the runners that may serve the group; the same runners take their share of everything else."""
    cluster, coordinator = begun()
    runners = [
        cluster.runner("a"),
        cluster.runner("b", "gpu"),
        cluster.runner("c", "gpu", "tiles", weight=3.0),
    ]
    cluster.serve(coordinator, *runners)
    assert held(*runners) == {
        **assign(SHARDS, {"a": 1.0, "b": 1.0, "c": 3.0}),
        **assign(GPU, {"b": 1.0, "c": 3.0}),
        **assign(TILES, {"c": 3.0}),
    }


def test_shards_that_nobody_may_have_wait_for_one_who_may() -> None:
    """They stay free however many others there are, and are granted as soon as one comes that may have them."""
    cluster, coordinator = begun()
    others = cluster.runner("a"), cluster.runner("b", "tiles")
    cluster.serve(coordinator, *others)
    assert not held(*others).keys() & set(GPU)
    assert held(*others).keys() == {*SHARDS, *TILES}
    came = cluster.runner("c", "gpu")
    cluster.serve(coordinator, *others, came)
    assert came.grants.keys() > set(GPU)


def test_the_last_runner_for_a_group_keeps_its_shards_when_it_drains_and_gives_up_the_rest() -> None:
    """Nothing is asked back while there is nobody else to take it."""
    cluster, coordinator = begun()
    runners = cluster.runner("a"), cluster.runner("b", "gpu")
    cluster.serve(coordinator, *runners)
    coordinator.drain_runner("b", cluster.now)
    cluster.serve(coordinator, *runners)
    assert runners[1].grants.keys() == set(GPU)
    heir = cluster.runner("c", "gpu")
    cluster.serve(coordinator, *runners, heir)
    assert runners[1].grants == {}
    assert heir.grants.keys() > set(GPU)


def test_a_silent_runner_whose_groups_have_no_heir_resumes() -> None:
    """Taking its shards would serve nobody: it goes on under the same epochs when it comes back."""
    cluster, coordinator = begun()
    coordinator.drain("node-of-b", cluster.now)  # so that it has nothing but the pinned shards
    alone, other = cluster.runner("b", "gpu"), cluster.runner("a")
    cluster.serve(coordinator, alone, other)
    coordinator.drain("node-of-b", cluster.now, draining=False)
    coordinator.drain("node-of-a", cluster.now)
    cluster.serve(coordinator, alone, other)
    before = {shard: epoch for shard, epoch in alone.grants.items() if shard.group == "gpu"}
    assert before.keys() == set(GPU)
    cluster.pass_time(4 * CONFIG.lease_s, coordinator, other)
    assert not alone.valid(cluster.now)
    cluster.serve(coordinator, alone, other)
    assert {shard: alone.grants[shard] for shard in GPU} == before


def test_the_next_term_moves_what_is_where_it_may_not_be() -> None:
    """A rule that came with a new coordinator: what was granted before it is asked back, not taken."""
    cluster = SmallCluster()
    old = cluster.coordinator()
    old.add_group("gpu", cluster.now)
    runners = cluster.runner("a"), cluster.runner("b", "gpu")
    cluster.serve(old, *runners)
    assert held(*runners) == assign([*SHARDS, *GPU], {"a": 1.0, "b": 1.0})
    cluster.config = PINNED
    new = cluster.coordinator()
    cluster.serve(new, *runners)
    assert held(*runners) == {**assign(SHARDS, {"a": 1.0, "b": 1.0}), **assign(GPU, {"b": 1.0})}


steps = st.lists(
    st.tuples(st.sampled_from(["join", "join gpu", "leave", "die", "flap"]), st.integers(0, 20)), max_size=12
)


class Crowd:
    """Runners that come and go; the first two stay, so that there is always somebody for each shard."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.cluster = SmallCluster(dataclasses.replace(PINNED, expected_runners=1, max_moving_shards=most))
        self.coordinator = self.cluster.coordinator()
        self.coordinator.add_group("gpu", self.cluster.now)
        self.living = [self.cluster.runner("first"), self.cluster.runner("first-gpu", "gpu")]
        self.started = 0
        self.cluster.serve(self.coordinator, *self.living)

    def start(self, *groups: str) -> Tenure:
        """A runner that has renewed until it can be granted shards; nobody has let go of any yet."""
        self.started += 1
        runner = self.cluster.runner(f"runner-{self.started}", *groups)
        for _ in range(2):
            self.cluster.renew(runner, self.coordinator)
            self.cluster.write_roster(self.coordinator)
        self.check_motion()
        return runner

    def check_motion(self) -> None:
        """No more shards are on the move than may be."""
        assert len(self.coordinator._ledger.moving) <= self.most

    def come_to_rest(self) -> None:
        """Everybody renews and lets go what is asked back, until nothing is left to say."""
        rounds = 2 * (len(SHARDS) + len(GPU)) // self.most + 10
        for _ in range(rounds):
            for runner in self.living:
                for shard in self.cluster.renew(runner, self.coordinator).to_release:
                    runner.released(shard)
                self.check_motion()
            self.cluster.write_roster(self.coordinator)
        self.cluster.serve(self.coordinator, *self.living)

    def wished(self) -> dict[ShardId, str]:
        """Where each shard should be."""
        staying = [runner for runner in self.living if not runner.leaving]
        pinned = [runner for runner in staying if "gpu" in runner.groups]
        return {
            **assign(SHARDS, {runner.runner_id: 1.0 for runner in staying}),
            **assign(GPU, {runner.runner_id: 1.0 for runner in pinned}),
        }


@settings(max_examples=60, deadline=None)
@given(steps=steps, most=st.integers(1, 9))
def test_only_the_share_of_those_who_come_and_go_moves_and_few_at_once(
    steps: list[tuple[str, int]], most: int
) -> None:
    """Through joins of several, leaves, deaths, and runners that come and are lost with shards on their way to them.

    Never more than `max_moving_shards` are asked back at once; what moves comes to the newcomers, or was with those who
    went; in the end each shard is exactly where it should be, and the pinned ones where they may be.
    """
    crowd = Crowd(most)
    for step, which in steps:
        before = held(*crowd.living)
        came: set[str] = set()
        went: set[str] = set()
        others = [runner for runner in crowd.living[2:] if not runner.leaving]
        if step.startswith("join"):
            several = [crowd.start(*step.split()[1:]) for _ in range(1 + which % 3)]
            came = {runner.runner_id for runner in several}
            crowd.living += several
        elif step == "flap":
            crowd.coordinator.proven_dead(crowd.start("gpu").runner_id, crowd.cluster.now)
        elif others:
            runner = others[which % len(others)]
            went = {runner.runner_id}
            if step == "leave":
                runner.leave()
            else:
                crowd.living.remove(runner)
                crowd.coordinator.proven_dead(runner.runner_id, crowd.cluster.now)
        crowd.come_to_rest()
        after = held(*crowd.living)
        assert after == crowd.wished()
        moved = [shard for shard, holder in before.items() if after[shard] != holder]
        assert all(after[shard] in came or before[shard] in went for shard in moved)
