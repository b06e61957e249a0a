"""Brings the grants closer to what the shard map wants, as far as is safe.

Decides which free shard goes to whom and which shard is asked back next. `coordinator` decides from when on
anything may be granted at all, and who is healthy; `shard_map` what would be best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster_app.coordinator_config import CoordinatorConfig
from cluster_app.ledger import Ledger
from cluster_app.runner_record import RunnerRecord
from cluster_app.shard import ShardId
from cluster_app.shard_map import ShardMap

__all__ = ["Placement"]


class Placement:
    """The wish of one term, and the way there.

    :param records: the coordinator's runners, read here and never changed.
    :param started_at: the coordinator's clock when the term started; the wait for expected runners counts
        from it.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        ledger: Ledger,
        records: Mapping[str, RunnerRecord],
        started_at: float,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._records = records
        self._map = ShardMap()
        self._misplaced: dict[ShardId, None] = {}
        self._first_wait_ends: float | None = started_at + config.first_grant_wait_s
        self._runners_changed = True

    @property
    def first_wait_ends(self) -> float | None:
        """When the wait for expected runners ends at the latest; None when it is over."""
        return self._first_wait_ends

    def add(self, shards: Iterable[ShardId]) -> None:
        """Take in more shards."""
        self._map.add(shards)

    def runners_changed(self) -> None:
        """Note that a runner may be eligible that was not, the other way round, or of another weight."""
        self._runners_changed = True

    def has_heirs(self) -> bool:
        """Whether there is any runner to grant shards to."""
        return any(record.eligible for record in self._records.values())

    def plan(self, now: float) -> None:
        """Grant what is free, and ask back what should be elsewhere."""
        if self._runners_changed or self._first_wait_ends is not None:
            if not self._wish(now):
                return
            self._runners_changed = False
        for shard in list(self._ledger.free):
            record = self._records.get(self._map.owner_of(shard) or "")
            if record is not None and record.grantable:
                self._ledger.grant(shard, record.runner_id, now)
        self._ask_for_misplaced(now)

    def _wish(self, now: float) -> bool:
        """Bring the map up to date; False when there is nobody, or not yet everybody expected."""
        eligible = {name: record.weight for name, record in self._records.items() if record.eligible}
        if not eligible:
            return False
        if self._first_wait_ends is not None:
            enough = len(eligible) >= self._config.expected_runners
            if not (enough or self._ledger.owners or now >= self._first_wait_ends):
                return False
            self._first_wait_ends = None
        self._misplaced.update(dict.fromkeys(self._map.set_runners(eligible)))
        return True

    def _ask_for_misplaced(self, now: float) -> None:
        """Ask runners for shards that belong elsewhere, as many at a time as may be in motion."""
        for shard in list(self._misplaced):
            if len(self._ledger.moving) >= self._config.max_moving_shards:
                return
            owner = self._ledger.owners.get(shard)
            wanted = self._map.owner_of(shard)
            if owner is None or wanted is None or owner[0] == wanted or shard in self._ledger.moving:
                del self._misplaced[shard]
                continue
            holder, heir = self._records[owner[0]], self._records.get(wanted)
            # A silent holder cannot be asked, and an heir that cannot take the shard yet must not cause a
            # gap: both are looked at again with the next plan.
            if holder.healthy and heir is not None and heir.grantable:
                self._ledger.ask(shard, holder.reason_to_move, now)
                del self._misplaced[shard]
