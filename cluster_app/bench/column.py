"""The numbers that are compared: one per round of a side."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["Column"]


class Column(NamedTuple):
    """One number per round, and what it is in."""

    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """What is quoted."""
        return median(self.values)
