"""Who gets which shard, and when it is safe: the coordinator of one term, as a pure state machine.

It never touches a clock, a thread or a store: readings of one clock of its process come in as `now`, and what
has to be written to the roster goes out by `roster_writes`. `docs/decisions` has the argument; in short:

- A runner may serve a shard until its lease ends; the lease counts from when it sent its renewal, while this
  side waits from when that came, and longer by `drift_s`. So here a lease never ends before it has ended there.
- A shard is granted when nobody can hold it: never granted, let go by its holder, or taken from a runner that
  is proven dead, or whose lease ended and whose roster entry has been removed.
- A new term grants nothing until each runner on the roster has acknowledged the term, is proven dead, or has
  been silent until its last lease must have ended and has been removed. What a runner on the roster reports
  stays its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from cluster_app.attention import Attention
from cluster_app.coordinator_config import CoordinatorConfig
from cluster_app.drains import Drains
from cluster_app.ended_processes import EndedProcesses
from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.handoff import Handoff, Vacancy
from cluster_app.leadership import Leadership, NotLeading
from cluster_app.ledger import Ledger
from cluster_app.placement import Placement
from cluster_app.roster import RosterEntry, RosterWrite
from cluster_app.roster_changes import RosterChanges
from cluster_app.routes import Loss, Routes
from cluster_app.runner_record import RunnerRecord, RunnerView
from cluster_app.shard import ShardId, shards_of

__all__ = ["Coordinator", "CoordinatorConfig", "RunnerEnded"]


class RunnerEnded(Exception):
    """A renewal in the name of a runner whose process is proven dead: a late one, or somebody else's.

    Or of one that is lost with its node: nobody can reach it any more, and it is to end.
    """


class Coordinator:
    """The grants of one term.

    :param leadership: has claimed the term. A method whose docstring says so raises NotLeading, and does
        nothing, while it does not lead.
    :param roster: what `Roster.read` gave after the claim.
    :param now: the clock after both: the old leadership is timed from here.
    """

    def __init__(
        self, config: CoordinatorConfig, leadership: Leadership, roster: Mapping[str, RosterEntry], now: float
    ) -> None:
        self.term = leadership.require(now)
        self._config = config
        self._leadership = leadership
        self._ledger = Ledger(self.term)
        self._records = {
            runner_id: RunnerRecord(runner_id, entry.node_id, entry.pid, since=entry.since)
            for runner_id, entry in roster.items()
        }
        self._awaited = set(roster)
        self._roster = RosterChanges(self._records)
        self._ended = EndedProcesses(config.forget_s)
        self._drains = Drains()
        self._lost_nodes: frozenset[str] = frozenset()
        self._singletons: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._placement = Placement(config, self._ledger, self._records, now)
        self._attention = Attention(now, config.lease_s / 2)
        # The old term leads until its leadership lease ends; what it lent last is served one lease longer.
        self._old_leases_end = now + leadership.lease_s + config.lease_s + 2 * config.drift_s

    @property
    def version(self) -> int:
        """Grows with every change that some runner or client should hear of."""
        return self._ledger.version

    @property
    def behind(self) -> bool:
        """Whether there is more to plan than was done at once: call `tick` again when others have had their turn."""
        return self.settled and self._placement.behind

    @property
    def plans(self) -> int:
        """How often it has been planned who should have what, in this term."""
        return self._placement.plans

    @property
    def settled(self) -> bool:
        """Whether every runner of earlier terms is accounted for, so that new grants can be given."""
        return not self._awaited

    def awaited(self) -> dict[str, RosterEntry]:
        """The runners of earlier terms not accounted for: prove one dead, and nobody waits for its lease."""
        waiting = ((runner_id, self._records[runner_id]) for runner_id in sorted(self._awaited))
        return {name: RosterEntry(r.node_id, r.pid, r.since) for name, r in waiting if r.since is not None}

    def add_group(self, group: str, now: float) -> None:
        """Take in a group's shards; a known group changes nothing.

        Raises NotLeading; ValueError for a bad name.
        """
        self._lead(now)
        self._add_group(group)
        self._plan(now)

    def keep(self, entity_type: str, group: str, now: float) -> None:
        """Have the cluster keep exactly one entity of this type, of that shard group, from now on. Raises NotLeading.

        Every runner hears of it: whoever is granted the entity's shard, now or later, starts it.
        """
        self._lead(now)
        if self._singletons.get(entity_type) != group:
            self._singletons[entity_type] = group
            for runner_id in self._records:
                self._ledger.touch(runner_id)

    @property
    def singletons(self) -> list[str]:
        """The types of which there is exactly one entity, sorted."""
        return sorted(self._singletons)

    def ship(self, entity_type: str, digest: str, now: float) -> None:
        """Have new activations of this type run the code of this digest, from now on. Raises NotLeading.

        Runners fetch a type's code when they first need it, so only other code than before is news: to every runner,
        also to one that can't be reached now, or has not been heard under this term.
        """
        self._lead(now)
        before = self._codes.get(entity_type)
        self._codes[entity_type] = digest
        if before is not None and before != digest:
            for runner_id in self._records:
                self._ledger.touch(runner_id)

    def renew(self, renewal: Renewal, now: float, *, received_at: float | None = None) -> Lease:
        """Answer a runner. The same renewal may be given again, to answer it later with what is news by then.

        The lease is counted from its receipt, whether or not the answer arrives: the runner counts it from before.

        :param received_at: the clock when this renewal came; `now`, if not given.

        :raises NotLeading: when this coordinator does not lead, or the runner has seen a higher term.
        :raises RunnerEnded: when the runner is proven dead, or its node is lost.
        :raises ValueError: for a weight that is not positive and finite.
        """
        if renewal.term > self.term:
            self._leadership.abdicate(renewal.term)
        self._lead(now)
        if renewal.runner_id in self._ended or renewal.node_id in self._lost_nodes:
            raise RunnerEnded(renewal.runner_id)
        if not (renewal.weight > 0 and math.isfinite(renewal.weight)):
            raise ValueError(f"a runner's weight is a positive finite number, not {renewal.weight}")
        if renewal.term < self.term:
            # Until it has seen this term it may still obey the old one: tell it, and lend it nothing.
            return Lease(self.term, 0.0, 0, None, frozenset())
        record = self._records.get(renewal.runner_id)
        if record is None:
            record = RunnerRecord(renewal.runner_id, renewal.node_id, renewal.pid)
            self._records[renewal.runner_id] = record
        changed = record.hear(renewal)
        if record.lost:
            record.come_back(now, self._config.lease_s)
        if not record.acknowledged:
            self._acknowledge(record, renewal)
            changed = True
        if changed:
            record.draining = self._drains.hold(record)
            self._placement.runner_changed(record.runner_id)
        for shard, epoch in renewal.released.items():
            changed |= self._ledger.release(shard, record.runner_id, epoch, now)
        received_at = now if received_at is None else received_at
        record.deadline = max(record.deadline, received_at + self._config.lease_s + self._config.drift_s)
        self._roster.enter(record, self._ledger.last_epoch)
        if changed:
            self._plan(now)
        return self._lease(record, renewal)

    def has_news(self, renewal: Renewal) -> bool:
        """Whether an answer now would tell more than a renewed lease: if not, it can be held back a while."""
        return renewal.term != self.term or renewal.version < self._ledger.version_of(renewal.runner_id)

    def tick(self, now: float) -> None:
        """Let time pass: find expired leases and go on with what waited. Call at least every `lease_s` / 8.

        Raises NotLeading.
        """
        self._lead(now)
        for record in self._records.values():
            if record.healthy and now >= record.deadline:
                record.healthy = False
                self._placement.runner_changed(record.runner_id)
        for record in list(self._records.values()):
            self._seize_if_lost(record, now)
            if record.held_until is not None and (
                now >= record.held_until or not self._placement.has_heir_of(record)
            ):
                record.held_until = None
                self._placement.runner_changed(record.runner_id)
            self._forget_if_gone(record, now)
        self._ended.forget(now)
        self._ledger.forget_losses(now - self._config.forget_s)
        self._plan(now)

    def proven_dead(self, runner_id: str, now: float) -> None:
        """The runner's process has ended, seen by its own node. Nothing less may be reported here.

        Heard also while not leading: a fact stays one. Other processes that send may be reported as well: runners
        hear of all of them.
        """
        self._ended.add(runner_id, now)
        record = self._records.get(runner_id)
        if record is None or record.dead:
            return
        record.dead, record.healthy = True, False
        self._placement.runner_changed(runner_id)
        self._awaited.discard(runner_id)
        self._ledger.seize(runner_id, now)
        # A dead process serves nothing, whatever the roster says; without an entry no later term waits.
        self._ledger.free_seized(runner_id)
        self._roster.strike(record)
        if self._leadership.leads(now):
            self._plan(now)

    def lose_nodes(self, node_ids: Iterable[str]) -> None:
        """These nodes, all that there are, have been given up for good: nobody can reach their runners any more.

        That proves nothing about their processes, which may live and serve on: they keep what they have until their
        leases end, and are lent no more. Heard also while not leading.
        """
        self._lost_nodes = frozenset(node_ids)
        for record in self._records.values():
            if record.healthy and record.node_id in self._lost_nodes:
                record.healthy = False
                self._placement.runner_changed(record.runner_id)

    def drain(self, node_id: str, now: float, draining: bool = True) -> None:
        """Move all shards off a node's runners and give them no more, or end that. Raises NotLeading."""
        self._lead(now)
        if not self._drains.node(node_id, draining):
            return
        for record in self._records.values():
            if record.node_id == node_id:
                record.draining = self._drains.hold(record)
                self._ledger.touch(record.runner_id)
                self._placement.runner_changed(record.runner_id)
        self._plan(now)

    def drain_runner(self, runner_id: str, now: float) -> None:
        """Move all shards off one runner and give it no more, for good. Raises NotLeading.

        Nothing is asked back while there is nobody else to take it.
        """
        self._lead(now)
        record = self._records.get(runner_id)
        if record is not None:
            self._drains.runner(runner_id)
            record.draining = True
            self._ledger.touch(runner_id)
            self._placement.runner_changed(runner_id)
            self._plan(now)

    def roster_writes(self) -> list[RosterWrite]:
        """The changes of the roster still to be written; listed until `roster_written` says so."""
        return self._roster.pending()

    def roster_written(self, writes: Iterable[RosterWrite], now: float) -> None:
        """These changes are in the store, *and* leadership was confirmed by a question sent after that.

        Only now may grants that depend on them leave. Raises NotLeading.
        """
        self._lead(now)
        for record in self._roster.written(writes):
            if record.since is None:
                self._awaited.discard(record.runner_id)
                self._ledger.free_seized(record.runner_id)
                if record.healthy:
                    self._roster.enter(record, self._ledger.last_epoch)
            elif record.dead:
                self._roster.strike(record)
            self._forget_if_gone(record, now)
        self._plan(now)

    def routes(self, known_version: int = -1, now: float | None = None) -> Routes | None:
        """Where the shards are, or what of it has changed since the known version; None when nothing has.

        :param now: the clock, for whom it matters how long ago runners were lost.
        """
        if known_version >= self.version:
            return None
        lost = {
            runner_id: Loss(epoch, 0.0 if now is None else max(0.0, now - ended_at))
            for runner_id, (epoch, ended_at) in self._ledger.lost.items()
        }
        return self._ledger.routes(known_version)._replace(lost=lost)

    def drain_news(self) -> set[str]:
        """The runners for which something is new since the last call: `has_news` may have become true for them."""
        return self._ledger.drain_touched()

    def owner(self, shard: ShardId) -> str | None:
        """The runner that a shard is granted to."""
        found = self._ledger.owners.get(shard)
        return None if found is None else found[0]

    def runners(self) -> list[RunnerView]:
        """Every runner known and not forgotten, by id."""
        return [r.view(len(self._ledger.grants_of(name))) for name, r in sorted(self._records.items())]

    def drain_handoffs(self) -> list[Handoff]:
        """The handoffs completed since the last call, to be counted once."""
        return self._ledger.drain_handoffs()

    def vacancies(self) -> Iterator[Vacancy]:
        """Every shard that is asked for, or was somebody's and is nobody's yet."""
        return self._ledger.vacancies()

    def next_deadline(self) -> float | None:
        """The earliest time at which a tick may find something to do; None when it would find nothing."""
        # Of runners on lost nodes too: they are not healthy any more, and serve until then.
        times = [r.deadline for r in self._records.values() if r.healthy or r.deadline > self._attention.last]
        times += [r.held_until for r in self._records.values() if r.held_until is not None]
        if self._awaited:
            times.append(max(self._old_leases_end, self._attention.heard_by(self._config.lease_s)))
        if self._placement.first_wait_ends is not None:
            times.append(self._placement.first_wait_ends)
        if self.behind:
            times.append(self._attention.last)
        return min(times, default=None)

    def _lead(self, now: float) -> None:
        if self._leadership.require(now) != self.term:
            raise NotLeading(self.term)
        self._attention.pays(now)

    def _add_group(self, group: str) -> None:
        self._placement.add(self._ledger.add(shards_of(group, self._config.shards_per_group)))

    def _acknowledge(self, record: RunnerRecord, renewal: Renewal) -> None:
        """Enter what the runner reports at its first renewal under this term.

        Only once: a late report is old news.
        """
        record.acknowledged = True
        reported = renewal.holding or {}
        good: dict[ShardId, Epoch] = {}
        if record.since is not None and record.pending is None:
            # On the roster, so these cannot have been granted elsewhere, however long it was silent.
            good = {shard: epoch for shard, epoch in reported.items() if epoch > record.since}
            self._awaited.discard(record.runner_id)
        for group in sorted({shard.group for shard in good}):
            self._add_group(group)
        self._ledger.adopt(record.runner_id, good)
        if renewal.draining:
            # Whether alone or with its node: it has been told to empty itself, and may be about to end.
            self._drains.runner(record.runner_id)

    def _lease(self, record: RunnerRecord, renewal: Renewal) -> Lease:
        version = self._ledger.version_of(record.runner_id)
        asked = self._ledger.asked_of(record.runner_id)
        lease = Lease(
            self.term,
            self._config.lease_s,
            version,
            None,
            asked,
            record.draining,
            granted=self._ledger.last_epoch,
            since=record.since,
            ends=self._ended.number,
            ended=self._ended.since(renewal.ends),
        )
        if renewal.version == version:
            return lease
        grants = dict(self._ledger.grants_of(record.runner_id))
        return lease._replace(grants=grants, singletons=dict(self._singletons), codes=dict(self._codes))

    def _seize_if_lost(self, record: RunnerRecord, now: float) -> None:
        """Take the shards from a runner whose lease has ended."""
        if record.healthy or record.dead or record.pending is not None or record.since is None:
            return
        ends = record.deadline if record.acknowledged else self._old_leases_end
        if now < max(ends, self._attention.heard_by(self._config.lease_s)):
            return
        # With nobody to take over, a runner that comes back goes on where it was.
        if self._placement.has_heirs({shard.group for shard in self._ledger.grants_of(record.runner_id)}):
            self._ledger.seize(record.runner_id, now, ended_at=ends)
            self._roster.strike(record)
            record.lose(now, self._config.forget_s)

    def _forget_if_gone(self, record: RunnerRecord, now: float) -> None:
        """Drop a runner that can hold nothing; one not proven dead stays a while, to be seen in `runners`."""
        gone = record.dead or (not record.healthy and now >= record.deadline + self._config.forget_s)
        if gone and record.since is None and record.pending is None:
            self._records.pop(record.runner_id, None)
            self._placement.runner_changed(record.runner_id)
            self._drains.forget(record.runner_id)
            self._ledger.forget(record.runner_id)

    def _plan(self, now: float) -> None:
        if not self._awaited:
            self._placement.plan(now)
