"""The figures by which a coordinator times leases and moves shards.

Decides what is a sound set of figures. `ClusterConfig` is where a user sets them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CoordinatorConfig"]


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Figures of the grant rules; ValueError for a set that cannot be safe.

    :ivar lease_s: how long a runner may serve after it sent a renewal, less its guard.
    :ivar guard_s: what runners take off. With `drift_s` it covers how much faster the coordinator's clock may
        run than a runner's during a lease: 0.1 s each of 3 s allow 3 % of one clock against another, far
        beyond the 0.05 % that NTP slews at most.
    :ivar drift_s: what the coordinator waits longer than a lease.
    :ivar shards_per_group: how finely a group is cut.
    :ivar expected_runners: the very first grants wait for so many runners, so that runners which start one
        after the other do not take shards from each other at once.
    :ivar first_grant_wait_s: how long they wait at most.
    :ivar max_moving_shards: how many shards may be asked back and not yet let go, in the whole cluster.
    :ivar forget_s: how long a lost runner stays listed.
    :ivar pinned_groups: the shard groups that only runners may serve which say so (see `Renewal.groups`).
    """

    lease_s: float = 3.0
    guard_s: float = 0.1
    drift_s: float = 0.1
    shards_per_group: int = 300
    expected_runners: int = 1
    first_grant_wait_s: float = 5.0
    max_moving_shards: int = 100
    forget_s: float = 60.0
    pinned_groups: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("lease_s", "guard_s", "drift_s", "first_grant_wait_s", "forget_s"):
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is a number of seconds, zero or more, not {value}")
        for name in ("shards_per_group", "expected_runners", "max_moving_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.guard_s >= self.lease_s:
            raise ValueError(f"guard_s ({self.guard_s}) leaves nothing of lease_s ({self.lease_s})")
