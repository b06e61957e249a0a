"""Which runner a shard should be on: weighted rendezvous hashing.

Each (shard, runner) pair has a score that depends on nothing else; the runner with the highest score gets the
shard. So a runner that joins takes only what it wins, and one that leaves gives up only what it had. Decides
the wish, not the right: who may serve a shard is decided by `coordinator`, one grant at a time.

The score of equal weights is a 64-bit hash; unequal weights compare ``-weight / ln(hash)``, which gives each
runner a share in proportion to its weight (Schindelhauer and Schomaker, "Weighted distributed hash tables",
2005).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from cluster_app.shard import ShardId

__all__ = ["ShardMap", "assign", "owner"]

_LANE_BYTES = 16  # a 64-bit key times a 64-bit key fits in 128 bits


class _Choice(NamedTuple):
    """A runner and its score for a shard; negative infinity is no runner at all."""

    score: float
    hash: int
    runner_id: str

    def beats(self, other: _Choice) -> bool:
        """Higher score, then higher hash (scores of floats can tie where hashes do not), then lower id."""
        if (self.score, self.hash) != (other.score, other.hash):
            return (self.score, self.hash) > (other.score, other.hash)
        return self.runner_id < other.runner_id


_NOBODY = _Choice(-math.inf, -1, "")


def _key(role: bytes, name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=role).digest(), "little")


class _Lanes:
    """Runners of one weight, their keys side by side in one large integer.

    One multiplication by a shard's key then scores all of them at C speed: a thousand runners in about 50 µs,
    where a hash call for each takes 700 µs.
    """

    def __init__(self, weight: float, runner_ids: Iterable[str]) -> None:
        self.weight = weight
        self.runner_ids = sorted(runner_ids)
        count = len(self.runner_ids)
        keys = (_key(b"runner", runner_id) for runner_id in self.runner_ids)
        self._keys = int.from_bytes(b"".join(key.to_bytes(_LANE_BYTES, "little") for key in keys), "little")
        self._bytes = count * _LANE_BYTES
        self._low_halves = struct.Struct("<" + "Q8x" * count)

    def best(self, shard_key: int) -> _Choice:
        product = self._keys * shard_key
        # The low half of a lane becomes its low half xor its high half, so that every input bit matters. What
        # the shift drags in from the next lane lands in the high half, which is not read.
        folded = product ^ (product >> 64)
        hashes = self._low_halves.unpack(folded.to_bytes(self._bytes, "little"))
        highest = max(hashes)
        # index() finds the first of equals, and ids are sorted: a tie goes to the lowest id.
        runner_id = self.runner_ids[hashes.index(highest)]
        return _Choice(-self.weight / math.log((highest + 0.5) / 2.0**64), highest, runner_id)


def _lanes(runners: Mapping[str, float]) -> list[_Lanes]:
    by_weight: dict[float, list[str]] = {}
    for runner_id, weight in runners.items():
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"a runner's weight is a positive finite number; {runner_id} has {weight}")
        by_weight.setdefault(weight, []).append(runner_id)
    return [_Lanes(weight, runner_ids) for weight, runner_ids in sorted(by_weight.items())]


def _best(shard_key: int, lanes: list[_Lanes]) -> _Choice:
    winner = _NOBODY
    for lane in lanes:
        choice = lane.best(shard_key)
        if winner is _NOBODY or choice.beats(winner):
            winner = choice
    return winner


class ShardMap:
    """The wished-for owner of every shard, kept up to date with the least work.

    A runner that goes costs only its own shards; one that comes, one comparison per shard.
    """

    def __init__(self) -> None:
        self._keys: dict[ShardId, int] = {}
        self._choices: dict[ShardId, _Choice] = {}
        self._runners: dict[str, float] = {}

    @property
    def runners(self) -> Mapping[str, float]:
        """The runners and their weights, as last set."""
        return self._runners

    def owner_of(self, shard: ShardId) -> str | None:
        """The runner that should have the shard; None without runners or for a shard that was not added."""
        return self._choices.get(shard, _NOBODY).runner_id or None

    def add(self, shards: Iterable[ShardId]) -> None:
        """Take in more shards; those already known stay as they are."""
        lanes = _lanes(self._runners)
        for shard in shards:
            if shard not in self._keys:
                key = self._keys[shard] = _key(b"shard", str(shard))
                self._choices[shard] = _best(key, lanes)

    def set_runners(self, runners: Mapping[str, float]) -> list[ShardId]:
        """Make these the runners (id to weight) and return the shards whose owner is another one now.

        Raises ValueError, and changes nothing, for an empty id or a weight that is not positive and finite.
        """
        if "" in runners:
            raise ValueError("a runner's id must not be empty")
        gone = {name for name, weight in self._runners.items() if runners.get(name) != weight}
        came = {name: weight for name, weight in runners.items() if self._runners.get(name) != weight}
        everyone, newcomers = _lanes(runners), _lanes(came)
        self._runners = dict(runners)
        moved: list[ShardId] = []
        for shard, old in self._choices.items():
            if old is _NOBODY or old.runner_id in gone:
                new = _best(self._keys[shard], everyone)
            elif newcomers:
                challenger = _best(self._keys[shard], newcomers)
                new = challenger if challenger.beats(old) else old
            else:
                continue
            if new is not old:
                self._choices[shard] = new
                if new.runner_id != old.runner_id:
                    moved.append(shard)
        return moved


def owner(shard: ShardId, runners: Mapping[str, float]) -> str:
    """The runner (of id to weight) that should have the shard.

    Raises ValueError when there are no runners.
    """
    if not runners:
        raise ValueError("there is no runner to own a shard")
    return _best(_key(b"shard", str(shard)), _lanes(runners)).runner_id


def assign(shards: Iterable[ShardId], runners: Mapping[str, float]) -> dict[ShardId, str]:
    """The owner of each shard, as `owner` gives it, for many at once. Raises ValueError without runners."""
    if not runners:
        raise ValueError("there is no runner to own a shard")
    lanes = _lanes(runners)
    return {shard: _best(_key(b"shard", str(shard)), lanes).runner_id for shard in shards}
