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
    :ivar entities, idle_s, busy: as in its last `Renewal`.
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
    deadline: float = -math.inf
    since: Epoch | None = None
    pending: RosterWrite | None = None
    entities: int = 0
    idle_s: float = 0.0
    busy: float = 0.0

    @property
    def eligible(self) -> bool:
        """Whether shards should be on it."""
        return self.healthy and not self.leaving and not self.draining

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
        before = (self.weight, self.leaving, self.healthy)
        self.node_id, self.pid = renewal.node_id, renewal.pid
        self.weight, self.leaving = renewal.weight, renewal.leaving
        self.entities, self.idle_s, self.busy = renewal.entities, renewal.idle_s, renewal.busy
        self.healthy = True
        return before != (self.weight, self.leaving, True)

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
