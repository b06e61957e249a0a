"""An exponential histogram: buckets whose edges are the powers of 2 ** (2 ** -scale), as many as its values need.

Decides how several become one, and how much one holds beyond another. One scale lower, each bucket is two of the finer
ones: so at the lower of two scales both are exact, and what is added up there is what a single histogram of all values
would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add, sub
from typing import Any

__all__ = ["Buckets", "ExponentialTotal"]

_MOST = 160  # buckets of one sign, as in the SDK; more make a lower scale


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts of the buckets from `offset` on; the bucket of index i holds values above base**i, up to base**(i + 1)."""

    offset: int = 0
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, by_index: Mapping[int, int]) -> Buckets:
        """Those, from the first to the last that is not empty."""
        filled = [index for index, count in by_index.items() if count]
        if not filled:
            return cls()
        first, last = min(filled), max(filled)
        return cls(first, tuple([by_index.get(index, 0) for index in range(first, last + 1)]))

    def by_index(self, shift: int = 0) -> dict[int, int]:
        """The counts that are not 0, each under its index so many scales lower."""
        return _lowered(
            {index: count for index, count in enumerate(self.counts, self.offset) if count}, shift
        )


@dataclass(frozen=True, slots=True)
class ExponentialTotal:
    """What an exponential histogram has counted.

    :ivar sum: of all values.
    :ivar zero: how many of them were 0.
    """

    scale: int
    sum: float
    zero: int = 0
    positive: Buckets = Buckets()
    negative: Buckets = Buckets()

    @property
    def count(self) -> int:
        """How many values."""
        return self.zero + sum(self.positive.counts) + sum(self.negative.counts)

    def __add__(self, other: ExponentialTotal) -> ExponentialTotal:
        return self._with(other, add)

    def __sub__(self, other: ExponentialTotal) -> ExponentialTotal:
        """What it holds beyond an earlier one of the same source. Raises ValueError when that holds more."""
        found = self._with(other, sub)
        if min((found.zero, *found.positive.counts, *found.negative.counts)) < 0:
            raise ValueError("the earlier totals hold more than the later ones")
        return found

    def _with(self, other: ExponentialTotal, by: Callable[[Any, Any], Any]) -> ExponentialTotal:
        # One that holds zeros only has any scale: to the SDK and here that is 0.
        scale = min([one.scale for one in (self, other) if one._filled], default=0)
        mine, its = self.scale - scale if self._filled else 0, other.scale - scale if other._filled else 0
        positive = _each(self.positive.by_index(mine), other.positive.by_index(its), by)
        negative = _each(self.negative.by_index(mine), other.negative.by_index(its), by)
        shift = max(_excess(positive), _excess(negative))
        return ExponentialTotal(
            scale - shift,
            by(self.sum, other.sum),
            by(self.zero, other.zero),
            Buckets.of(_lowered(positive, shift)),
            Buckets.of(_lowered(negative, shift)),
        )

    @property
    def _filled(self) -> bool:
        return bool(self.positive.counts or self.negative.counts)


def _each(left: dict[int, int], right: dict[int, int], by: Callable[[Any, Any], Any]) -> dict[int, int]:
    return {index: by(left.get(index, 0), right.get(index, 0)) for index in left.keys() | right.keys()}


def _lowered(by_index: dict[int, int], shift: int) -> dict[int, int]:
    """The same counts so many scales lower."""
    if not shift:
        return by_index
    found: dict[int, int] = {}
    for index, count in by_index.items():
        found[index >> shift] = found.get(index >> shift, 0) + count
    return found


def _excess(by_index: dict[int, int]) -> int:
    """How many scales lower they are no more than may be."""
    if not by_index:
        return 0
    first, last = min(by_index), max(by_index)
    shift = 0
    while (last >> shift) - (first >> shift) >= _MOST:
        shift += 1
    return shift
