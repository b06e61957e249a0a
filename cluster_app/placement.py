"""Brings the grants closer to what the shard map wants, as far as is safe.

Decides which free shard goes to whom and which shard is asked back next. `coordinator` decides from when on
anything may be granted at all, and who is healthy; `shard_map` what would be best.

The shards of a pinned group may only be on runners that say so, and have a map of their own, of these alone; all
others share one map of all runners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster_app.coordinator_config import CoordinatorConfig
from cluster_app.ledger import Ledger
from cluster_app.runner_record import RunnerRecord
from cluster_app.shard import ShardId
from cluster_app.shard_map import ShardMap

__all__ = ["Placement"]

# Pairs of a shard and a runner scored in one go: some 30 ms. Renewals that wait for long would cost leases.
_PAIRS_AT_ONCE = 500_000


class Placement:
    """The wish of one term, and the way there.

    :param records: the coordinator's runners, read here and never changed.
    :param started_at: the coordinator's clock when the term started; the wait for expected runners counts
        from it.
    :ivar plans: how many plans have been made.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        ledger: Ledger,
        records: Mapping[str, RunnerRecord],
        started_at: float,
    ) -> None:
        self.plans = 0
        self._config = config
        self._ledger = ledger
        self._records = records
        self._anywhere = ShardMap()
        self._pinned = {group: ShardMap() for group in sorted(config.pinned_groups)}
        self._misplaced: dict[ShardId, None] = {}
        self._first_wait_ends: float | None = started_at + config.first_grant_wait_s
        self._changed: set[str] = set(records)

    @property
    def first_wait_ends(self) -> float | None:
        """When the wait for expected runners ends at the latest; None when it is over."""
        return self._first_wait_ends

    @property
    def behind(self) -> bool:
        """Whether the next plan has something to do already."""
        return self._first_wait_ends is None and any(shard_map.behind for shard_map in self._maps())

    @property
    def scored(self) -> int:
        """How many pairs of a shard and a runner have been scored."""
        return sum(shard_map.scored for shard_map in self._maps())

    def add(self, shards: Iterable[ShardId]) -> None:
        """Take in more shards."""
        by_map: dict[str, list[ShardId]] = {}
        for shard in shards:
            by_map.setdefault(shard.group, []).append(shard)
        for group, those in by_map.items():
            self._map_of(group).add(those)

    def runner_changed(self, runner_id: str) -> None:
        """Note that a runner may be eligible that was not, or the other way round, for other groups, or weigh more."""
        self._changed.add(runner_id)

    def has_heirs(self, groups: Iterable[str]) -> bool:
        """Whether there is any runner to grant shards of one of these groups to; of no group: any runner."""
        wanted = set(groups)
        return any(
            record.eligible and (not wanted or any(self._may_serve(record, group) for group in wanted))
            for record in self._records.values()
        )

    def has_heir_of(self, record: RunnerRecord) -> bool:
        """Whether others may serve all that this runner may."""
        return self.has_heirs(()) and all(self.has_heirs((group,)) for group in record.groups)

    def plan(self, now: float) -> None:
        """Grant what is free, and ask back what should be elsewhere."""
        if not self._wish(now):
            return
        self.plans += 1
        latest = self.scored + _PAIRS_AT_ONCE
        for shard in list(self._ledger.free):
            shard_map = self._map_of(shard.group)
            if shard_map.behind and self.scored >= latest:
                break
            record = self._records.get(shard_map.owner_of(shard) or "")
            if record is not None and record.grantable:
                self._ledger.grant(shard, record.runner_id, now)
        for shard_map in self._maps():
            self._misplaced.update(dict.fromkeys(shard_map.settle(max(0, latest - self.scored))))
        self._ask_for_misplaced(now)

    def _maps(self) -> list[ShardMap]:
        return [self._anywhere, *self._pinned.values()]

    def _map_of(self, group: str) -> ShardMap:
        return self._pinned.get(group, self._anywhere)

    def _may_serve(self, record: RunnerRecord, group: str) -> bool:
        return group not in self._pinned or group in record.groups

    def _wish(self, now: float) -> bool:
        """Tell the maps of changed runners; False while not everybody expected is there."""
        if self._first_wait_ends is not None:
            eligible = sum(record.eligible for record in self._records.values())
            enough = eligible >= self._config.expected_runners
            if not eligible or not (enough or self._ledger.owners or now >= self._first_wait_ends):
                return False
            self._first_wait_ends = None
        changed, self._changed = self._changed, set()
        for runner_id in sorted(changed):
            record = self._records.get(runner_id)
            weight = record.weight if record is not None and record.eligible else None
            self._anywhere.change(runner_id, weight)
            for group, shard_map in self._pinned.items():
                fits = record is not None and group in record.groups
                shard_map.change(runner_id, weight if fits else None)
        return True

    def _ask_for_misplaced(self, now: float) -> None:
        """Ask runners for shards that belong elsewhere, as many at a time as may be in motion."""
        done: list[ShardId] = []
        for shard in self._misplaced:
            if len(self._ledger.moving) >= self._config.max_moving_shards:
                break
            owner = self._ledger.owners.get(shard)
            wanted = self._map_of(shard.group).owner_of(shard)
            if owner is None or wanted is None or owner[0] == wanted or shard in self._ledger.moving:
                done.append(shard)
                continue
            holder, heir = self._records[owner[0]], self._records.get(wanted)
            # A silent holder cannot be asked, and an heir that cannot take the shard yet must not cause a
            # gap: both are looked at again with the next plan.
            if holder.healthy and heir is not None and heir.grantable:
                self._ledger.ask(shard, holder.reason_to_move, now)
                done.append(shard)
        for shard in done:
            del self._misplaced[shard]
