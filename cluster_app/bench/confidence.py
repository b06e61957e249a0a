"""How sure a mean of few figures is."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev

__all__ = ["upper_bound"]


def upper_bound(figures: Sequence[float], confidence: float = 0.95) -> float:
    """The value that the true mean does not exceed, at this confidence: one-sided, by Student's t.

    Raises ValueError for fewer than two figures: nothing is known of how they scatter.
    """
    if len(figures) < 2:
        raise ValueError(f"a bound needs two figures at least, not {len(figures)}")
    from scipy.stats import t

    step = float(t.ppf(confidence, len(figures) - 1))
    return mean(figures) + step * stdev(figures) / sqrt(len(figures))
