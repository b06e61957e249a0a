"""How well a runner and a shard go together: the scores of weighted rendezvous hashing, many at once.

Each (shard, runner) pair has a score that depends on nothing else. Decides the score; whom it makes the winner among
which runners is `shard_map`'s business.

The score of equal weights is a 64-bit hash; unequal weights compare ``-weight / ln(hash)``, which gives each runner a
share in proportion to its weight (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["NOBODY", "Choice", "SideBySide", "score", "score_key"]

_BYTES = 16  # a 64-bit key times a 64-bit key fits in 128 bits
_LARGEST = math.log(1 - 2.0**-53)  # of the hashes that round to 1, whose logarithm would be 0


class Choice(NamedTuple):
    """A runner and its score for a shard; negative infinity is no runner at all."""

    score: float
    hash: int
    runner_id: str

    def beats(self, other: Choice) -> bool:
        """Higher score, then higher hash (scores of floats can tie where hashes do not), then lower id."""
        if (self.score, self.hash) != (other.score, other.hash):
            return (self.score, self.hash) > (other.score, other.hash)
        return self.runner_id < other.runner_id


NOBODY = Choice(-math.inf, -1, "")


def score_key(role: bytes, name: str) -> int:
    """The 64-bit key of a shard or a runner, by its name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=role).digest(), "little")


def score(weight: float, hash_: int) -> float:
    """How well a runner of this weight does with this hash."""
    return -weight / (math.log((hash_ + 0.5) / 2.0**64) or _LARGEST)


class SideBySide:
    """Keys of many runners, or of many shards, side by side in one large integer.

    One multiplication by the key of one of the other kind then hashes all pairs at C speed: a thousand in about 20 µs,
    where a hash call for each takes 700 µs. A pair has the same hash whichever of the two is the one.
    """

    def __init__(self, keys: Iterable[int]) -> None:
        several: Sequence[bytes] = [key.to_bytes(_BYTES, "little") for key in keys]
        self._keys = int.from_bytes(b"".join(several), "little")
        self._bytes = len(several) * _BYTES
        self._low_halves = struct.Struct("<" + "Q8x" * len(several))

    def hashes(self, key: int) -> tuple[int, ...]:
        """The hash of each pair with this key, in order."""
        product = self._keys * key
        # The low half of a pair's product becomes its low half xor its high half, so that every input bit matters. What
        # the shift drags in from the next pair lands in the high half, which is not read.
        folded = product ^ (product >> 64)
        return self._low_halves.unpack(folded.to_bytes(self._bytes, "little"))
