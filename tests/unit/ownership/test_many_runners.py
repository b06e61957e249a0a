"""The coordinator of very many: what is done for a change, a loss and a time in which nothing happens, in counts."""

from __future__ import annotations

import dataclasses

import pytest

from cluster_app.coordinator import Coordinator
from cluster_app.placement import _PAIRS_AT_ONCE
from cluster_app.shard import shards_of
from cluster_app.shard_map import assign
from cluster_app.tenure import Tenure
from tests.unit.ownership.small_cluster import CONFIG, SmallCluster

RUNNERS, MANY_SHARDS = 100, 30_000
MANY = dataclasses.replace(
    CONFIG, shards_per_group=MANY_SHARDS, expected_runners=RUNNERS, first_grant_wait_s=60.0
)


class Crowd:
    """As many runners as there are expected, all shards granted."""

    def __init__(self) -> None:
        self.cluster = SmallCluster(MANY)
        self.coordinator: Coordinator = self.cluster.coordinator()
        self.runners = {f"runner-{n}": self.cluster.runner(f"runner-{n}") for n in range(RUNNERS)}
        for _ in range(2):
            self.renew_all()
            self.cluster.write_roster(self.coordinator)
        self.slices = self.catch_up()
        self.renew_all()

    def renew_all(self) -> None:
        """One renewal of each, answered and applied."""
        for runner in self.runners.values():
            self.cluster.renew(runner, self.coordinator)

    def catch_up(self) -> list[int]:
        """Tick until there is nothing left to plan; the pairs scored in each."""
        slices = []
        while self.coordinator.behind:
            scored = self.scored
            self.cluster.leaderships[self.coordinator].confirm(self.cluster.now)
            self.coordinator.tick(self.cluster.now)
            slices.append(self.scored - scored)
        return slices

    @property
    def scored(self) -> int:
        """Pairs of a shard and a runner scored so far."""
        return self.coordinator._placement.scored

    @property
    def plans(self) -> int:
        """Plans made so far."""
        return self.coordinator._placement.plans


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """One crowd for the tests of this module, which change it one after another."""
    return Crowd()


def held(runners: dict[str, Tenure]) -> dict[str, int]:
    """How many shards each has."""
    return {name: len(runner.grants) for name, runner in runners.items()}


def test_a_great_plan_is_made_in_slices(crowd: Crowd) -> None:
    """No tick scores much more than a slice, so renewals are answered in between; in the end everything is granted."""
    assert len(crowd.slices) >= 1
    assert max(crowd.slices) <= _PAIRS_AT_ONCE + RUNNERS
    assert crowd.scored == RUNNERS * MANY_SHARDS
    assert sum(held(crowd.runners).values()) == MANY_SHARDS
    assert not crowd.coordinator.behind


def test_at_rest_nothing_is_planned_or_scored(crowd: Crowd) -> None:
    """A renewal without news makes no plan and no write, and its answer carries no grants."""
    before = (crowd.plans, crowd.scored)
    for runner in crowd.runners.values():
        lease = crowd.coordinator.renew(runner.renewal(), crowd.cluster.now)
        assert lease.grants is None
    assert (crowd.plans, crowd.scored) == before
    assert crowd.coordinator.roster_writes() == []
    assert crowd.coordinator.drain_news() == set(crowd.runners)
    assert crowd.coordinator.drain_news() == set()


def test_losing_a_tenth_costs_little_more_than_granting_it_anew(crowd: Crowd) -> None:
    """All of it is granted elsewhere in as many plans as there are losses; few shards are scored again."""
    coordinator, cluster = crowd.coordinator, crowd.cluster
    lost = [f"runner-{n}" for n in range(RUNNERS // 10)]
    orphans = sum(len(crowd.runners[name].grants) for name in lost)
    before = (crowd.plans, crowd.scored)
    known = coordinator.routes()
    assert known is not None
    for name in lost:
        coordinator.proven_dead(name, cluster.now)
        del crowd.runners[name]
    assert crowd.plans - before[0] == len(lost)
    assert crowd.scored - before[1] < orphans * RUNNERS / 5
    assert not coordinator.behind
    crowd.renew_all()
    assert {shard: name for name, runner in crowd.runners.items() for shard in runner.grants} == assign(
        shards_of("default", MANY_SHARDS), dict.fromkeys(crowd.runners, 1.0)
    )
    news = coordinator.routes(known.version)
    assert news is not None
    assert len(news.owners) == orphans


def test_those_who_join_cost_one_comparison_per_shard_each(crowd: Crowd) -> None:
    """Ten at once; nothing else is scored, and no more shards than may be are asked for at a time."""
    scored = crowd.scored
    came = {f"late-{n}": crowd.cluster.runner(f"late-{n}") for n in range(10)}
    for _ in range(2):
        for runner in came.values():
            crowd.cluster.renew(runner, crowd.coordinator)
        crowd.cluster.write_roster(crowd.coordinator)
    crowd.catch_up()
    assert crowd.scored - scored == 10 * MANY_SHARDS
    assert len(crowd.coordinator._ledger.moving) == MANY.max_moving_shards
