"""The coordinator's book of grants: who has each shard, under which epoch, and what is changing hands.

A shard is in exactly one state: free, granted, granted and asked back, or seized (taken from a lost runner,
not yet free to be granted). Decides no policy: `coordinator` says what to grant, ask for, seize and free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cluster_app.grants import Epoch
from cluster_app.handoff import Handoff, HandoffReason, Vacancy
from cluster_app.routes import Routes
from cluster_app.shard import ShardId

__all__ = ["Ledger"]


# Room for the versions of one term. A sender asks with the version that it last heard, whoever leads by now: were
# versions of two terms ever equal, it would be told that nothing has changed.
_TERM_BITS = 32


class Ledger:
    """The book of one term.

    :ivar version: grows with every change that a runner or a client should hear of, and from term to term.
    :ivar owners: each granted shard's runner and epoch.
    :ivar free: the shards that can be granted, with the reason why they changed hands, if they did.
    :ivar moving: the shards asked back and not yet let go.
    :ivar lost: runners from which everything was taken: the latest epoch that can have been theirs, and since when, by
        the coordinator's clock, they served nothing any more.
    """

    def __init__(self, term: int) -> None:
        self.version = self._first_version = term << _TERM_BITS
        self.owners: dict[ShardId, tuple[str, Epoch]] = {}
        self.free: dict[ShardId, Vacancy | None] = {}
        self.moving: dict[ShardId, Vacancy] = {}
        self._last = Epoch(term, 0)
        self._grants: dict[str, dict[ShardId, Epoch]] = {}
        self._asked: dict[str, set[ShardId]] = {}
        self.lost: dict[str, tuple[Epoch, float]] = {}
        self._seized: dict[str, dict[ShardId, Vacancy]] = {}
        self._losing: dict[str, tuple[Epoch, float]] = {}
        self._known: set[ShardId] = set()
        self._versions: dict[str, int] = {}
        # The version at which each shard's owner last changed, the latest last: a log that never needs cutting.
        self._changed_at: dict[ShardId, int] = {}
        self._touched: set[str] = set()
        self._handoffs: list[Handoff] = []

    @property
    def last_epoch(self) -> Epoch:
        """The greatest epoch given out under this term so far; every later one is greater."""
        return self._last

    def add(self, shards: Iterable[ShardId]) -> list[ShardId]:
        """Take in shards; those that were new are free, and returned."""
        new = [shard for shard in shards if shard not in self._known]
        self._known.update(new)
        self.free.update(dict.fromkeys(new))
        return new

    def grants_of(self, runner_id: str) -> Mapping[ShardId, Epoch]:
        """What the runner may serve."""
        return self._grants.get(runner_id, {})

    def asked_of(self, runner_id: str) -> frozenset[ShardId]:
        """The shards the runner has been asked to let go."""
        return frozenset(self._asked.get(runner_id, ()))

    def version_of(self, runner_id: str) -> int:
        """The version at which the runner's grants, or what is asked of it, last changed."""
        return self._versions.get(runner_id, 0)

    def touch(self, runner_id: str) -> None:
        """Note that there is something new to tell the runner."""
        self.version += 1
        self._versions[runner_id] = self.version
        self._touched.add(runner_id)

    def drain_touched(self) -> set[str]:
        """The runners that there is something new to tell since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def routes(self, known_version: int) -> Routes:
        """Where the shards are, or what of it has changed since a version of this term."""
        if known_version < self._first_version:
            return Routes(self.version, dict(self.owners))
        changed: dict[ShardId, tuple[str, Epoch]] = {}
        vacant: list[ShardId] = []
        for shard, version in reversed(self._changed_at.items()):
            if version <= known_version:
                break
            owner = self.owners.get(shard)
            if owner is None:
                vacant.append(shard)
            else:
                changed[shard] = owner
        return Routes(self.version, changed, since=known_version, vacant=tuple(vacant))

    def adopt(self, runner_id: str, holding: Mapping[ShardId, Epoch]) -> None:
        """Enter grants of an earlier term that their holder reports; a shard not free stays as it is."""
        for shard, epoch in holding.items():
            if shard in self.free:
                del self.free[shard]
                self._enter(shard, runner_id, epoch)
        self.touch(runner_id)

    def grant(self, shard: ShardId, runner_id: str, now: float) -> None:
        """Give a free shard to a runner, under the next epoch."""
        vacancy = self.free.pop(shard)
        self._last = self._last._replace(n=self._last.n + 1)
        self._enter(shard, runner_id, self._last)
        self.touch(runner_id)
        if vacancy is not None and vacancy.runner_id != runner_id:
            took_s = now - vacancy.since
            self._handoffs.append(Handoff(shard, vacancy.reason, vacancy.outcome, took_s, vacancy.runner_id))

    def ask(self, shard: ShardId, reason: HandoffReason, now: float) -> None:
        """Ask a granted shard back from its runner."""
        runner_id, _ = self.owners[shard]
        self.moving[shard] = Vacancy(runner_id, reason, "ok", now)
        self._asked.setdefault(runner_id, set()).add(shard)
        self.touch(runner_id)

    def release(self, shard: ShardId, runner_id: str, epoch: Epoch, now: float) -> bool:
        """Take back what a runner has let go; False, and no change, unless it is granted it under that epoch.

        So a late or repeated word about an earlier grant cannot end a later one.
        """
        if self.owners.get(shard) != (runner_id, epoch):
            return False
        self._strike(shard)
        self._asked.get(runner_id, set()).discard(shard)
        self.free[shard] = self.moving.pop(shard, None) or Vacancy(runner_id, "leave", "ok", now)
        self.touch(runner_id)
        return True

    def seize(self, runner_id: str, now: float, *, ended_at: float | None = None) -> None:
        """Take everything from a lost runner. The shards become free by `free_seized`, not before.

        :param ended_at: when the last lease that it can have had ended; now, if not given.
        """
        self._losing[runner_id] = (self._last, now if ended_at is None else ended_at)
        seized = self._seized.setdefault(runner_id, {})
        self._asked.pop(runner_id, None)
        for shard in list(self.grants_of(runner_id)):
            self._strike(shard)
            asked = self.moving.pop(shard, None)
            lost = Vacancy(runner_id, "lost", "ok", now)
            seized[shard] = lost if asked is None else asked._replace(outcome="error")
        self.touch(runner_id)

    def free_seized(self, runner_id: str) -> None:
        """What was seized from the runner can be granted from now on: no later term gives it back either.

        So senders are told only now that nothing will come of what they sent there.
        """
        self.free.update(self._seized.pop(runner_id, {}))
        loss = self._losing.pop(runner_id, None)
        if loss is not None:
            self.lost[runner_id] = loss
            self.version += 1

    def forget_losses(self, before: float) -> None:
        """Tell no more of those that were lost by then."""
        self.lost = {name: loss for name, loss in self.lost.items() if loss[1] >= before}

    def forget(self, runner_id: str) -> None:
        """Drop what is kept about a runner that has no shards."""
        self._versions.pop(runner_id, None)
        self._grants.pop(runner_id, None)
        self._asked.pop(runner_id, None)

    def vacancies(self) -> Iterator[Vacancy]:
        """Every shard that is asked for, or was somebody's and is nobody's yet."""
        yield from self.moving.values()
        for seized in self._seized.values():
            yield from seized.values()
        yield from (vacancy for vacancy in self.free.values() if vacancy is not None)

    def drain_handoffs(self) -> list[Handoff]:
        """The changes of runner since the last call."""
        handoffs, self._handoffs = self._handoffs, []
        return handoffs

    def _enter(self, shard: ShardId, runner_id: str, epoch: Epoch) -> None:
        self.owners[shard] = (runner_id, epoch)
        self._note(shard)
        self._grants.setdefault(runner_id, {})[shard] = epoch

    def _strike(self, shard: ShardId) -> None:
        runner_id, _ = self.owners.pop(shard)
        self._note(shard)
        del self._grants[runner_id][shard]

    def _note(self, shard: ShardId) -> None:
        """The shard's owner changes with the next version, which whoever notes that makes."""
        self._changed_at.pop(shard, None)
        self._changed_at[shard] = self.version + 1
