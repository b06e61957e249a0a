"""What a runner and the coordinator say to each other about grants.

Values only. `tenure` decides what a runner makes of an answer, `coordinator` what it answers.
No clock reading travels: the two clocks are never compared, only durations are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cluster_app.shard import ShardId

__all__ = ["Epoch", "Lease", "Renewal"]


class Epoch(NamedTuple):
    """One grant of one shard. Later grants are greater, also across terms; no two grants are equal."""

    term: int
    n: int

    def __str__(self) -> str:
        return f"{self.term}.{self.n}"


class Renewal(NamedTuple):
    """A runner asks for its lease to be renewed and reports what the coordinator cannot know.

    :ivar runner_id: the runner's incarnation; a new process is a new id.
    :ivar node_id: its node. `pid` is its process there: both serve whoever has to prove that it is dead.
    :ivar weight: its share of the shards relative to other runners.
    :ivar term: the highest term it has seen. A renewal that names the coordinator's own term is the
        acknowledgement of that term: no answer of a lower one will be obeyed from then on.
    :ivar version: the version of the last answer applied under that term; 0 if there was none.
    :ivar holding: every shard it holds, suspended or not, until it has applied an answer under `term`; then
        None.
    :ivar released: shards it has let go, by the epoch it held them under, until an answer shows they were
        taken back.
    :ivar leaving: it wants to go and asks for its shards to be moved.
    :ivar draining: it was told that it drains. Runners remember this for a coordinator that comes after.
    :ivar ends: how many ends of processes it has heard of under that term.
    :ivar entities: how many live on it.
    :ivar idle_s: seconds since the last one of them went; 0 while there are any.
    :ivar busy: its share of a core since the renewal before, 1 for all of one.
    :ivar groups: the pinned shard groups that it may serve, because its node has what they ask for.
    :ivar held_up: what the shards that it was asked for waited for longest: ``Type/id.method``, and seconds.
    """

    runner_id: str
    node_id: str
    pid: int
    weight: float
    term: int
    version: int
    holding: Mapping[ShardId, Epoch] | None
    released: Mapping[ShardId, Epoch]
    leaving: bool = False
    draining: bool = False
    ends: int = 0
    entities: int = 0
    idle_s: float = 0.0
    busy: float = 0.0
    groups: frozenset[str] = frozenset()
    held_up: tuple[tuple[str, float], ...] = ()


class Lease(NamedTuple):
    """The coordinator's answer to one renewal.

    :ivar term: the coordinator's term.
    :ivar lease_s: how long the lease lasts from when the *renewal was sent*; 0 when the answer only tells the
        term.
    :ivar version: the version of `grants` and `release`; it grows within a term.
    :ivar grants: all the runner may serve, replacing what it had; None when that has not changed since the
        version it named.
    :ivar release: shards of `grants` to be let go.
    :ivar draining: the runner drains, alone or with its node.
    :ivar singletons: the entity types of which there is exactly one, each with its shard group; told together with
        `grants`, and None without.
    :ivar codes: the digest of each registered type's code; told together with `grants`, and None without.
    :ivar granted: the latest epoch given out to anybody: what the runner has of those up to it, it knows by now.
    :ivar since: what the runner was granted up to this epoch has been taken from it; None: not on the roster, so it
        has nothing.
    :ivar ends: how many processes' ends are proven to this term.
    :ivar ended: those of them that the runner has not heard of: none of them sends anything any more.
    """

    term: int
    lease_s: float
    version: int
    grants: Mapping[ShardId, Epoch] | None
    release: frozenset[ShardId]
    draining: bool = False
    singletons: Mapping[str, str] | None = None
    codes: Mapping[str, str] | None = None
    granted: Epoch = Epoch(0, 0)
    since: Epoch | None = None
    ends: int = 0
    ended: frozenset[str] = frozenset()
