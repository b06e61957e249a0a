"""A runner's own view of what it may serve, and until when.

Decides which answers a runner obeys: none of a term below the highest it has seen, none older than the last
one applied. Decides nothing about entities: the runner reads `TenureChange` and stops, starts or lets go.

Expired means suspended: shards and epochs stay, nothing may be served. The same epochs renewed resume; a
shard missing from a later answer, or given under another epoch, has ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.shard import ShardId

__all__ = ["Tenure", "TenureChange"]


class TenureChange(NamedTuple):
    """What applying one answer has changed.

    :ivar stale: the answer was refused, and nothing changed.
    :ivar granted: new shards, or shards under a new epoch.
    :ivar revoked: shards that ended, with the epoch that ended; what ran there must stop and must not
        publish. A shard can be both revoked (old epoch) and granted (new epoch).
    :ivar to_release: shards newly asked back: stop accepting, finish, deactivate, then call
        `Tenure.released`.
    :ivar resumed: the tenure had expired and is valid again.
    :ivar renew_at_once: the coordinator waits for a report: send the next renewal now.
    """

    stale: bool = False
    granted: Mapping[ShardId, Epoch] = {}
    revoked: Mapping[ShardId, Epoch] = {}
    to_release: frozenset[ShardId] = frozenset()
    resumed: bool = False
    renew_at_once: bool = False


class Tenure:
    """The grants and the lease of one runner incarnation.

    Clock values (`sent_at`, `now`) are readings in seconds of one clock of this process that goes on while
    the machine sleeps (`CLOCK_BOOTTIME`). Not thread-safe, with one exception: `valid` and `serves` only
    read, each attribute once, so other threads may call them while one thread applies.

    :param weight: its share of the shards, as against other runners. `groups`: the pinned ones that it may serve.
    :param guard_s: what is taken off each lease, for the clock's error and for the time between the check of
        a grant and its effect.
    """

    def __init__(
        self,
        runner_id: str,
        node_id: str,
        *,
        guard_s: float,
        pid: int = 0,
        weight: float = 1.0,
        groups: frozenset[str] = frozenset(),
    ) -> None:
        self.runner_id = runner_id
        self.node_id = node_id
        self.pid = pid
        self.weight = weight
        self.groups = groups
        self.term = 0
        self.version = 0
        self.ends = 0  # of processes, as far as it has heard of them under this term
        self.lease_end = -math.inf
        self.leaving = False
        self.draining = False
        # Every grant of its own up to this epoch is known here: it is held, or it has ended.
        self.known = Epoch(0, 0)
        # What was granted up to this one has been taken from it, whatever a sender believes.
        self.fenced = Epoch(0, 0)
        self._guard_s = guard_s
        self._grants: dict[ShardId, Epoch] = {}
        self._released: dict[ShardId, Epoch] = {}
        self._asked_back: frozenset[ShardId] = frozenset()

    @property
    def grants(self) -> Mapping[ShardId, Epoch]:
        """The shards held, suspended or not.

        Replaced as a whole by `apply` and `released`, never changed in place.
        """
        return self._grants

    def valid(self, now: float) -> bool:
        """Whether the lease still runs: only then may anything start or leave."""
        return now < self.lease_end

    def owns(self, shard: ShardId) -> Epoch | None:
        """The epoch under which the shard is held, suspended or not."""
        return self._grants.get(shard)

    def serves(self, shard: ShardId, now: float) -> Epoch | None:
        """The epoch under which the shard may be served at `now`; None when not held or suspended."""
        return self._grants.get(shard) if now < self.lease_end else None

    def renewal(self) -> Renewal:
        """The next renewal to send. Read the clock before sending it and give that reading to `apply`."""
        return Renewal(
            runner_id=self.runner_id,
            node_id=self.node_id,
            pid=self.pid,
            weight=self.weight,
            groups=self.groups,
            term=self.term,
            version=self.version,
            ends=self.ends,
            holding=self._grants if self.version == 0 else None,
            released=dict(self._released),
            leaving=self.leaving,
            draining=self.draining,
        )

    def leave(self) -> None:
        """Ask, from the next renewal on, for all shards to be moved elsewhere."""
        self.leaving = True

    def released(self, shard: ShardId) -> None:
        """Let the shard go: nothing of it runs here any more.

        Told with each renewal until it has been heard.
        """
        epoch = self._grants.get(shard)
        if epoch is not None:
            self._grants = {held: e for held, e in self._grants.items() if held != shard}
            self._released[shard] = epoch

    def apply(self, lease: Lease, sent_at: float, now: float) -> TenureChange:
        """Obey an answer, or refuse it, and say what changed.

        :param sent_at: the clock when the renewal that this answers was sent.
        :param now: the clock now.
        """
        if lease.term < self.term:
            return TenureChange(stale=True)  # the fence: an old coordinator may still be answering
        if lease.term > self.term:
            # The shards stay, and so does what is left of the lease: the new term learns of both from the
            # report.
            self.term, self.version, self.ends = lease.term, 0, 0
            return TenureChange(renew_at_once=True)
        if lease.version < self.version:
            return TenureChange(stale=True)
        was_valid = self.valid(now)
        granted: dict[ShardId, Epoch] = {}
        revoked: dict[ShardId, Epoch] = {}
        if lease.grants is not None:
            # A shard let go is still listed, under the epoch let go, by an answer that had not heard of it.
            listed = {
                shard: epoch for shard, epoch in lease.grants.items() if self._released.get(shard) != epoch
            }
            granted = {shard: epoch for shard, epoch in listed.items() if self._grants.get(shard) != epoch}
            revoked = {shard: epoch for shard, epoch in self._grants.items() if listed.get(shard) != epoch}
            self._released = {
                shard: epoch for shard, epoch in self._released.items() if lease.grants.get(shard) == epoch
            }
            if granted or revoked:
                self._grants = listed
        asked_back = frozenset(shard for shard in lease.release if shard in self._grants)
        # A shard that ended and came back under a new epoch has been asked for once more.
        to_release = asked_back - (self._asked_back - granted.keys())
        self._asked_back = asked_back
        self.version = lease.version
        self.draining = lease.draining
        self.ends = max(self.ends, lease.ends)
        self.known = max(self.known, lease.granted)
        if lease.since is not None:
            self.fenced = max(self.fenced, lease.since)
        # Answers can overtake each other: the end never moves back.
        self.lease_end = max(self.lease_end, sent_at + lease.lease_s - self._guard_s)
        return TenureChange(
            granted=granted,
            revoked=revoked,
            to_release=to_release,
            resumed=not was_valid and self.valid(now),
        )
