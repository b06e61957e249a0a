"""Where the shards are, as senders are told: all of them once, then what has changed.

Apart from the coordinator, which decides it: a sender does without all of that, and an entity's own process is up
the sooner.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cluster_app.grants import Epoch
from cluster_app.shard import ShardId

__all__ = ["Loss", "Routes", "read_routes", "write_routes"]


class Loss(NamedTuple):
    """A runner from which everything was taken, because it is dead or let its lease run out.

    :ivar epoch: the latest that can have been its own. What it was granted up to it has ended, also if it lives.
    :ivar ago_s: for how long it has served nothing under those epochs, at least.
    """

    epoch: Epoch
    ago_s: float


class Routes(NamedTuple):
    """Where each granted shard is, as of a version: shard to (runner id, epoch).

    :ivar lost: runners lost of late, by id. A runner that let a shard go in order is not among them: what it ran before
        is still answered.
    :ivar since: None: this is all. Else what has changed since that version, which is the one the asker named.
    :ivar vacant: with `since`, the shards that nobody is granted any more.
    """

    version: int
    owners: Mapping[ShardId, tuple[str, Epoch]]
    lost: Mapping[str, Loss] = {}
    since: int | None = None
    vacant: tuple[ShardId, ...] = ()

    def after(self, news: Routes) -> Routes:
        """These routes and what was told about them; changes since another version than this change nothing."""
        if news.since is None:
            return news
        if news.since != self.version:
            return self
        owners = {**self.owners, **news.owners}
        for shard in news.vacant:
            owners.pop(shard, None)
        return Routes(news.version, owners, news.lost)


def write_routes(routes: Routes) -> bytes:
    """Bytes for `read_routes`. Of plain tuples: named ones take four times as long, and there may be 100,000."""
    owners = [
        (number, group, runner_id, term, n)
        for (group, number), (runner_id, (term, n)) in routes.owners.items()
    ]
    vacant: Iterable[tuple[str, int]] = map(tuple, routes.vacant)  # type: ignore[arg-type]  # of a pair, it is one
    lost = [(runner_id, tuple(loss.epoch), loss.ago_s) for runner_id, loss in routes.lost.items()]
    return pickle.dumps((routes.version, routes.since, owners, list(vacant), lost), protocol=5)


def read_routes(data: bytes) -> Routes:
    """What `write_routes` wrote."""
    version, since, rows, vacant, losses = pickle.loads(data)
    owners = {
        ShardId(group, number): (runner_id, Epoch(term, n)) for number, group, runner_id, term, n in rows
    }
    lost = {runner_id: Loss(Epoch(*epoch), ago_s) for runner_id, epoch, ago_s in losses}
    return Routes(version, owners, lost, since, tuple(ShardId(*shard) for shard in vacant))
