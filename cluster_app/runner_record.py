"""What the coordinator knows about one runner incarnation.

State and the questions asked of it; `coordinator` decides what follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from cluster_app.grants import Epoch, Renewal
from cluster_app.handoff import HandoffReason
from cluster_app.roster import RosterEntry, RosterWrite

__all__ = ["RunnerRecord", "RunnerView"]

_MOST_PATIENCE = 4  # a runner that comes and goes waits for 16 leases at most


class RunnerView(NamedTuple):
    """One runner, for `status`.

    :ivar healthy: it has acknowledged this term and its lease has not run out.
    :ivar shards: how many are granted to it.
    :ivar draining: it drains, alone or with its node, or it asked to leave: it gets no more shards.
    :ivar entities, idle_s, busy: as in its last `Renewal`.
    """

    runner_id: str
    node_id: str
    pid: int
    healthy: bool
    shards: int
    draining: bool
    entities: int = 0
    idle_s: float = 0.0
    busy: float = 0.0


@dataclass(slots=True)
class RunnerRecord:
    """One runner, by what it said and what was written about it.

    :ivar acknowledged: it has renewed under this term, so it obeys no lower one.
    :ivar healthy: acknowledged, not dead, and its lease had not run out when last looked at.
    :ivar dead: its process is proven to have ended.
    :ivar leaving: it asked to go. `draining`: it is to be emptied, alone or with its node.
    :ivar entities, idle_s, busy, groups: as in its last `Renewal`.
    :ivar losses: how often in a row it was silent until its shards were taken. `lost`: it has not been heard since.
    :ivar returned_at: when it was, the last time.
    :ivar held_until: until then it gets no shards, because it comes and goes; None when it may have some.
    :ivar deadline: until when, by the coordinator's clock, the last answer may let it serve, in seconds.
    :ivar since: of its entry on the roster, once written and confirmed; None when it is not on it.
    :ivar pending: the change of its entry that is being written. One at a time, so that none overtakes
        another.
    """

    runner_id: str
    node_id: str
    pid: int
    weight: float = 1.0
    acknowledged: bool = False
    healthy: bool = False
    dead: bool = False
    leaving: bool = False
    draining: bool = False
    losses: int = 0
    lost: bool = False
    returned_at: float = -math.inf
    held_until: float | None = None
    deadline: float = -math.inf
    since: Epoch | None = None
    pending: RosterWrite | None = None
    entities: int = 0
    idle_s: float = 0.0
    busy: float = 0.0
    groups: frozenset[str] = frozenset()

    @property
    def eligible(self) -> bool:
        """Whether shards should be on it."""
        return self.healthy and not self.leaving and not self.draining and self.held_until is None

    @property
    def reason_to_move(self) -> HandoffReason:
        """Why a shard is asked back from it."""
        return "leave" if self.leaving else "drain" if self.draining else "join"

    @property
    def grantable(self) -> bool:
        """Whether a grant may be given to it: it answers, and its entry is on the roster and stays there."""
        return self.healthy and self.since is not None and self.pending is None

    def view(self, shards: int) -> RunnerView:
        """The record as `status` shows it."""
        out = self.leaving or self.draining
        load = (self.entities, self.idle_s, self.busy)
        return RunnerView(self.runner_id, self.node_id, self.pid, self.healthy, shards, out, *load)

    def hear(self, renewal: Renewal) -> bool:
        """Take in what a renewal says of the runner itself; True when its share of the shards changes by
        that.
        """
        before = (self.weight, self.groups, self.leaving, self.healthy)
        self.node_id, self.pid = renewal.node_id, renewal.pid
        self.weight, self.groups, self.leaving = renewal.weight, renewal.groups, renewal.leaving
        self.entities, self.idle_s, self.busy = renewal.entities, renewal.idle_s, renewal.busy
        self.healthy = True
        return before != (self.weight, self.groups, self.leaving, True)

    def enter(self, last_epoch: Epoch) -> None:
        """Want it on the roster, for grants after `last_epoch`; nothing when it is, or a change is being
        written.
        """
        if self.since is None and self.pending is None and not self.dead:
            entry = RosterEntry(self.node_id, self.pid, last_epoch)
            self.pending = RosterWrite(self.runner_id, entry)

    def strike(self) -> None:
        """Want it off the roster; nothing when it is, or a change is being written."""
        if self.since is not None and self.pending is None:
            self.pending = RosterWrite(self.runner_id, None)

    def lose(self, now: float, forget_s: float) -> None:
        """It was silent for so long that its shards were taken; what was longer ago than `forget_s` is forgotten."""
        self.lost = True
        self.losses = self.losses + 1 if now - self.returned_at < forget_s else 1

    def come_back(self, now: float, lease_s: float) -> None:
        """It is heard again. From the second loss on it has to renew for a while first, twice as long each time."""
        self.lost, self.returned_at = False, now
        if self.losses > 1:
            self.held_until = now + lease_s * 2 ** min(self.losses - 1, _MOST_PATIENCE)
