"""Runners and coordinators on one clock, with messages that arrive at once: for tests that tell one story."""

from __future__ import annotations

from cluster_app.coordinator import Coordinator, CoordinatorConfig
from cluster_app.kv import MemoryKeyValue
from cluster_app.leadership import Leadership
from cluster_app.roster import Roster
from cluster_app.shard import ShardId, shards_of
from cluster_app.tenure import Tenure, TenureChange

CONFIG = CoordinatorConfig(lease_s=3.0, guard_s=0.1, drift_s=0.2, shards_per_group=12, expected_runners=2)
LEADERSHIP_S = 1.0
SHARDS = shards_of("default", CONFIG.shards_per_group)
# When a term started at time 0 stops waiting for silent runners: the old leadership, then its last lease.
OLD_LEASES_END = LEADERSHIP_S + CONFIG.lease_s + 2 * CONFIG.drift_s


class SmallCluster:
    """A store, a clock that stands still until `now` is set, and what runners and coordinators say."""

    def __init__(self, config: CoordinatorConfig = CONFIG) -> None:
        self.config = config
        self.kv = MemoryKeyValue()
        self.roster = Roster(self.kv, "test")  # to look at
        self.rosters: dict[Coordinator, Roster] = {}
        self.leaderships: dict[Coordinator, Leadership] = {}
        self.now = 0.0

    def coordinator(self) -> Coordinator:
        """A coordinator of the next term, with the default group."""
        leadership = Leadership(self.kv, "test", LEADERSHIP_S, "incarnation")
        assert leadership.claim(self.now) is not None
        roster = Roster(self.kv, "test")
        term = leadership.require(self.now)
        coordinator = Coordinator(self.config, leadership, roster.take_over(term), self.now)
        self.rosters[coordinator] = roster
        coordinator.add_group("default", self.now)
        self.leaderships[coordinator] = leadership
        return coordinator

    def runner(self, name: str, *groups: str, weight: float = 1.0) -> Tenure:
        """A runner that has not said anything yet, on a node of its own that may serve these pinned groups."""
        return Tenure(
            name,
            f"node-of-{name}",
            guard_s=self.config.guard_s,
            pid=7,
            weight=weight,
            groups=frozenset(groups),
        )

    def renew(self, runner: Tenure, coordinator: Coordinator) -> TenureChange:
        """One renewal, answered and applied."""
        return runner.apply(coordinator.renew(runner.renewal(), self.now), self.now, self.now)

    def write_roster(self, coordinator: Coordinator) -> None:
        """Write, confirm, go on; raises AssertionError when leadership is not confirmed."""
        writes = coordinator.roster_writes()
        self.rosters[coordinator].write(writes)
        assert self.leaderships[coordinator].confirm(self.now)
        coordinator.roster_written(writes, self.now)

    def serve(self, coordinator: Coordinator, *runners: Tenure) -> None:
        """Everybody renews until nothing is left to say; shards asked back are let go at once."""
        for _ in range(40):
            self.leaderships[coordinator].confirm(self.now)
            coordinator.tick(self.now)
            for runner in runners:
                for shard in self.renew(runner, coordinator).to_release:
                    runner.released(shard)
            self.write_roster(coordinator)
            renewals = [runner.renewal() for runner in runners]
            more = any(r.version == 0 or r.released or coordinator.has_news(r) for r in renewals)
            if not more and not coordinator.roster_writes():
                return
        raise AssertionError("the cluster does not come to rest")

    def pass_time(self, seconds: float, coordinator: Coordinator, *runners: Tenure) -> None:
        """Time passes in quarter seconds, in which these runners renew."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.25)
            self.serve(coordinator, *runners)


def served_by(runner: Tenure, now: float) -> set[ShardId]:
    """The shards the runner may serve."""
    return {shard for shard in SHARDS if runner.serves(shard, now)}
