"""One shard's change of runner, as it is counted.

Decides the closed sets of reasons and outcomes. `ledger` decides when one happens.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cluster_app.shard import ShardId

__all__ = ["Handoff", "HandoffOutcome", "HandoffReason", "Vacancy"]

HandoffReason = Literal["join", "leave", "drain", "lost"]
HandoffOutcome = Literal["ok", "error"]


class Handoff(NamedTuple):
    """A shard that one runner had is another's now.

    :ivar reason: ``join`` (the wish moved because runners came), ``leave`` (its runner asked to go),
        ``drain`` (it or its node drains) or ``lost`` (its runner died or let its lease run out).
    :ivar outcome: ``error`` when a runner that had been asked for the shard was lost before it let go.
    :ivar seconds: from asking, or from finding the loss, to the new grant.
    :ivar runner_id: who had it.
    """

    shard: ShardId
    reason: HandoffReason
    outcome: HandoffOutcome
    seconds: float
    runner_id: str


class Vacancy(NamedTuple):
    """Why a shard that somebody had is free, or about to be.

    :ivar runner_id: who had it.
    :ivar since: the coordinator's clock when it was asked for, or when the loss was found.
    """

    runner_id: str
    reason: HandoffReason
    outcome: HandoffOutcome
    since: float
