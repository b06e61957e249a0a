"""Which runner a shard should be on: that with the highest score of `rendezvous`.

So a runner that joins takes only what it wins, and one that leaves gives up only what it had. Decides the wish, not the
right: who may serve a shard is decided by `coordinator`, one grant at a time.

Scoring a great many shards takes seconds, so changes are only noted here at once; `settle` works them off, as much at a
time as its caller has time for.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping

from cluster_app.rendezvous import NOBODY, Choice, SideBySide, score, score_key
from cluster_app.shard import ShardId

__all__ = ["ShardMap", "assign", "owner"]

_COMPARISON = (
    2  # times as long a newcomer's comparison with an owner takes as a pair of a shard that is scored anew
)


class _Equals:
    """Runners of one weight."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.runner_ids: list[str] = []
        self._keys: list[int] = []
        self._side_by_side: SideBySide | None = None

    def add(self, runner_id: str, key: int) -> None:
        place = bisect.bisect_left(self.runner_ids, runner_id)
        self.runner_ids.insert(place, runner_id)
        self._keys.insert(place, key)
        self._side_by_side = None

    def remove(self, runner_id: str) -> None:
        place = bisect.bisect_left(self.runner_ids, runner_id)
        del self.runner_ids[place], self._keys[place]
        self._side_by_side = None

    def best(self, shard_key: int) -> tuple[Choice, Choice]:
        """The winner and the runner-up."""
        if self._side_by_side is None:
            self._side_by_side = SideBySide(self._keys)
        hashes = self._side_by_side.hashes(shard_key)
        # index() finds the first of equals, and ids are sorted: a tie goes to the lowest id.
        winner = hashes.index(max(hashes))
        others = hashes[:winner] + hashes[winner + 1 :]
        if not others:
            return self._choice(hashes[winner], winner), NOBODY
        second = others.index(max(others))
        return self._choice(hashes[winner], winner), self._choice(others[second], second + (second >= winner))

    def _choice(self, hash_: int, place: int) -> Choice:
        return Choice(score(self.weight, hash_), hash_, self.runner_ids[place])


class _Everyone:
    """Runners of any weights.

    :ivar weights: their weights, by id.
    """

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self._equals: dict[float, _Equals] = {}

    def change(self, runner_id: str, weight: float | None) -> None:
        before = self.weights.pop(runner_id, None)
        if before is not None:
            equals = self._equals[before]
            equals.remove(runner_id)
            if not equals.runner_ids:
                del self._equals[before]
        if weight is not None:
            self.weights[runner_id] = weight
            equals = self._equals.setdefault(weight, _Equals(weight))
            equals.add(runner_id, score_key(b"runner", runner_id))

    def best(self, shard_key: int) -> tuple[Choice, Choice]:
        """The winner and the runner-up, NOBODY where there is none."""
        winner = second = NOBODY
        for equals in self._equals.values():
            for choice in equals.best(shard_key):
                if choice.beats(winner):
                    winner, second = choice, winner
                elif choice.beats(second):
                    second = choice
        return winner, second

    @property
    def equal(self) -> bool:
        """Whether all have the same weight."""
        return len(self._equals) < 2

    def has(self, choice: Choice) -> bool:
        """Whether this runner is one of them and would score the same now."""
        weight = self.weights.get(choice.runner_id)
        return weight is not None and score(weight, choice.hash) == choice.score


def _check(runner_id: str, weight: float) -> None:
    if not runner_id:
        raise ValueError("a runner's id must not be empty")
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"a runner's weight is a positive finite number; {runner_id} has {weight}")


class ShardMap:
    """The wished-for owner of every shard, kept up to date with the least work.

    A runner that comes costs one comparison per shard. One that goes costs only its own shards, and of these only those
    whose runner-up is not known: where it is, it has won.

    :ivar scored: how many pairs of a shard and a runner have been scored, ever: what all this costs.
    """

    def __init__(self) -> None:
        self.scored = 0
        self._everyone = _Everyone()
        # Shards go by their place in these lists.
        self._places: dict[ShardId, int] = {}
        self._shards: list[ShardId] = []
        self._keys: list[int] = []
        self._choices: list[Choice] = []
        self._seconds: list[Choice | None] = []  # NOBODY: there is none; None: not known
        self._floors: list[float] = []  # a score below this changes neither,
        self._hash_floors: list[int] = []  # nor does a hash below this while all have the same weight
        self._side_by_side: SideBySide | None = None
        self._won: dict[str, set[int]] = {}
        self._due: dict[int, None] = {}  # to be scored against everyone
        self._newcomers: dict[str, None] = {}  # to be scored against the owners of all others
        self._before: dict[int, str] = {}  # the owner at the last `settle`, of what has changed since

    @property
    def runners(self) -> Mapping[str, float]:
        """The runners and their weights, as last set."""
        return self._everyone.weights

    @property
    def behind(self) -> bool:
        """Whether there is something for `settle` to do."""
        return bool(self._everyone.weights and (self._due or self._newcomers))

    def owner_of(self, shard: ShardId) -> str | None:
        """The runner that should have the shard; None without runners or for a shard that was not added."""
        place = self._places.get(shard)
        if place is None:
            return None
        if place in self._due:
            self._score(place)
        return self._choices[place].runner_id or None

    def add(self, shards: Iterable[ShardId]) -> None:
        """Take in more shards; those already known stay as they are."""
        new = [shard for shard in dict.fromkeys(shards) if shard not in self._places]
        places = range(len(self._shards), len(self._shards) + len(new))
        self._places.update(zip(new, places, strict=True))
        self._shards += new
        self._keys += [score_key(b"shard", str(shard)) for shard in new]
        self._choices += [NOBODY] * len(new)
        self._seconds += [None] * len(new)
        self._floors += [NOBODY.score] * len(new)
        self._hash_floors += [NOBODY.hash] * len(new)
        self._due.update(dict.fromkeys(places))
        self._before.update(dict.fromkeys(places, ""))
        self._side_by_side = None

    def set_runners(self, runners: Mapping[str, float]) -> None:
        """Make these the runners, id to weight.

        Raises ValueError, and changes nothing, for an empty id or a weight that is not positive and finite.
        """
        for runner_id, weight in runners.items():
            _check(runner_id, weight)
        for runner_id in self._everyone.weights.keys() - runners.keys():
            self.change(runner_id, None)
        for runner_id, weight in runners.items():
            self.change(runner_id, weight)

    def change(self, runner_id: str, weight: float | None) -> None:
        """Give a runner this weight; None takes it out. Raises ValueError as `set_runners` does."""
        before = self._everyone.weights.get(runner_id)
        if weight == before:
            return
        if weight is not None:
            _check(runner_id, weight)
        self._everyone.change(runner_id, weight)
        self._newcomers.pop(runner_id, None)
        if before is not None:
            for place in sorted(self._won.pop(runner_id, ())):
                second = self._seconds[place]
                if second is not None and self._everyone.has(second):
                    self._give(place, second, None)
                else:
                    self._give(place, NOBODY, None)
                    self._due[place] = None
        if weight is not None and len(self._due) < len(self._shards):
            self._newcomers[runner_id] = None

    def settle(self, most: float = math.inf) -> list[ShardId]:
        """Find the owners that changes have made others; returns the shards whose owner is another than it last was.

        :param most: after so many scored pairs, leave the rest for the next time (see `behind`).
        """
        latest = self.scored + most
        while self._newcomers and self.scored < latest:
            newcomer = next(iter(self._newcomers))
            del self._newcomers[newcomer]
            self._challenge(newcomer)
            latest -= (_COMPARISON - 1) * len(self._shards)
        if self._everyone.weights:
            for place in list(self._due):
                if self.scored >= latest:
                    break
                self._score(place)
            known = [place for place in self._before if place not in self._due]
        else:
            known = list(self._before)  # nobody has any of them
        moved = [place for place in known if self._before.pop(place) != self._choices[place].runner_id]
        if not self._everyone.weights:
            self._before.update(dict.fromkeys(self._due, ""))
        return [self._shards[place] for place in sorted(moved)]

    def _challenge(self, newcomer: str) -> None:
        """Let a runner that came win the shards at which it beats the owner."""
        if self._side_by_side is None:
            self._side_by_side = SideBySide(self._keys)
        weight = self._everyone.weights[newcomer]
        hashes = self._side_by_side.hashes(score_key(b"runner", newcomer))
        self.scored += len(hashes)
        if self._everyone.equal:
            pairs = enumerate(zip(hashes, self._hash_floors, strict=True))
            promising = [place for place, (hash_, floor) in pairs if hash_ >= floor]
        else:
            scores = enumerate(zip(hashes, self._floors, strict=True))
            promising = [place for place, (hash_, least) in scores if score(weight, hash_) >= least]
        for place in promising:
            if place in self._due:
                continue
            hash_, winner, second = hashes[place], self._choices[place], self._seconds[place]
            challenger = Choice(score(weight, hash_), hash_, newcomer)
            if challenger.beats(winner):
                self._give(place, challenger, winner)
            elif second is not None and newcomer != winner.runner_id and challenger.beats(second):
                self._give(place, winner, challenger)

    def _score(self, place: int) -> None:
        """Find the best of all runners for this shard."""
        if self._everyone.weights:
            self.scored += len(self._everyone.weights)
            del self._due[place]
            self._give(place, *self._everyone.best(self._keys[place]))

    def _give(self, place: int, winner: Choice, second: Choice | None) -> None:
        old = self._choices[place].runner_id
        if old != winner.runner_id:
            self._before.setdefault(place, old)
            if old in self._won:
                self._won[old].discard(place)
            if winner.runner_id:
                self._won.setdefault(winner.runner_id, set()).add(place)
        self._choices[place], self._seconds[place] = winner, second
        self._floors[place] = (winner if second is None else second).score
        # The runner-up may be one that has gone, of another weight than all have now: then its hash says nothing.
        self._hash_floors[place] = winner.hash if second is None else min(winner.hash, second.hash)


def owner(shard: ShardId, runners: Mapping[str, float]) -> str:
    """The runner (of id to weight) that should have the shard.

    Raises ValueError when there are no runners.
    """
    return assign([shard], runners)[shard]


def assign(shards: Iterable[ShardId], runners: Mapping[str, float]) -> dict[ShardId, str]:
    """The owner of each shard, as `owner` gives it, for many at once. Raises ValueError without runners."""
    if not runners:
        raise ValueError("there is no runner to own a shard")
    everyone = _Everyone()
    for runner_id, weight in runners.items():
        _check(runner_id, weight)
        everyone.change(runner_id, weight)
    return {shard: everyone.best(score_key(b"shard", str(shard)))[0].runner_id for shard in shards}
