"""What has been counted so far, as one small value that travels between processes.

Decides how totals add up and how they are taken apart. Does not decide whose totals they are or which of two
is the newer: that is the node agent's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import add, sub
from typing import TypeAlias

from observe.exponential import ExponentialTotal

__all__ = ["HistogramTotal", "PointKey", "PointValue", "Totals", "merge", "subtract"]

PointKey: TypeAlias = tuple[str, tuple[str, ...]]
"""A metric's name and its label values, in the order in which the instrument declares its labels."""

HistogramTotal: TypeAlias = tuple[tuple[int, ...], float]
"""Counts per bucket (the last one is the overflow, above the highest edge) and the sum of the values.

Without any bucket it is a counter of floats, which only a user's own instrument can be.
"""

PointValue: TypeAlias = int | float | HistogramTotal | ExponentialTotal
"""An int for a counter, a float for a gauge, a pair for a histogram; an exponential one is a user's own."""


class Totals(Mapping[PointKey, PointValue]):
    """A read-only mapping of points, which compares by value and pickles as one dict."""

    __slots__ = ("_points",)

    def __init__(self, points: Mapping[PointKey, PointValue] | None = None) -> None:
        self._points: dict[PointKey, PointValue] = dict(points) if points else {}

    def __getitem__(self, key: PointKey) -> PointValue:
        return self._points[key]

    def __iter__(self) -> Iterator[PointKey]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __repr__(self) -> str:
        return f"Totals({self._points!r})"

    def __reduce__(self) -> tuple[type[Totals], tuple[dict[PointKey, PointValue]]]:
        return (Totals, (self._points,))


def merge(parts: Iterable[Totals]) -> Totals:
    """Add totals up, point by point: counts, gauges and buckets each by plain addition.

    Raises ValueError when two parts disagree about what a point is (a counter here, a histogram there, or
    other bucket edges): there is no right sum of those.
    """
    points: dict[PointKey, PointValue] = {}
    for part in parts:
        for key, value in part.items():
            present = points.get(key)
            points[key] = value if present is None else _add(key, present, value)
    return Totals(points)


def subtract(later: Totals, earlier: Totals) -> Totals:
    """What was counted between two totals of the same source.

    Points that did not change are left out. A gauge is no sum, so the later reading stands. Raises ValueError
    when `earlier` holds more than `later`: then they are not of one source, or are the wrong way round.
    """
    points: dict[PointKey, PointValue] = {}
    for key, value in later.items():
        before = earlier.get(key)
        if before is None or (isinstance(value, float) and isinstance(before, float)):
            points[key] = value
        elif before != value:
            points[key] = _difference(key, value, before)
    for key, value in earlier.items():
        if key not in later and not isinstance(value, float):
            raise ValueError(f"{key}: the earlier totals hold a point that the later ones lack")
    return Totals(points)


def _add(key: PointKey, left: PointValue, right: PointValue) -> PointValue:
    if isinstance(left, ExponentialTotal) and isinstance(right, ExponentialTotal):
        return left + right
    left, right = _of_one_kind(left, right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        if len(left[0]) != len(right[0]):
            raise ValueError(f"{key}: histograms of {len(left[0])} and {len(right[0])} buckets do not add up")
        return tuple(map(add, left[0], right[0])), left[1] + right[1]
    if isinstance(left, int | float) and isinstance(right, int | float) and type(left) is type(right):
        return left + right
    raise ValueError(f"{key}: {left!r} and {right!r} are not of one kind")


def _difference(key: PointKey, later: PointValue, earlier: PointValue) -> PointValue:
    if isinstance(later, ExponentialTotal) and isinstance(earlier, ExponentialTotal):
        try:
            return later - earlier
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    later, earlier = _of_one_kind(later, earlier)
    if isinstance(later, tuple) and isinstance(earlier, tuple) and len(later[0]) == len(earlier[0]):
        counts = tuple(map(sub, later[0], earlier[0]))
        if min(counts, default=0) < 0:
            raise ValueError(f"{key}: the earlier totals hold more than the later ones")
        return counts, later[1] - earlier[1]
    if isinstance(later, int) and isinstance(earlier, int):
        if later < earlier:
            raise ValueError(f"{key}: the earlier totals hold more than the later ones")
        return later - earlier
    raise ValueError(f"{key}: {later!r} and {earlier!r} are not of one kind")


def _of_one_kind(left: PointValue, right: PointValue) -> tuple[PointValue, PointValue]:
    """A counter that was given whole numbers here and others there is one of floats."""
    if type(left) is int and isinstance(right, tuple) and not right[0]:
        return ((), float(left)), right
    if type(right) is int and isinstance(left, tuple) and not left[0]:
        return left, ((), float(right))
    return left, right
