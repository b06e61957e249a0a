"""Queries in PromQL, put together from series.

It decides how rates, sums and quantiles are written, and what a query answers when there is nothing to ask about. It
knows no metric.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RATE", "Series", "less", "or_zero", "quantile", "ratio", "total"]

RATE = "$__rate_interval"
"""Grafana's own window for a rate: as short as can be, and never without two samples."""


@dataclass(frozen=True, slots=True)
class Series:
    """The series of one name.

    :ivar matchers: PromQL label matchers, as ``type="Timeout"``.
    """

    name: str
    matchers: tuple[str, ...] = ()

    def rate(self, window: str = RATE) -> str:
        """How fast a counter grows, per second."""
        return f"rate({self}[{window}])"

    def increase(self, window: str) -> str:
        """How much a counter has grown within the window."""
        return f"increase({self}[{window}])"

    def __str__(self) -> str:
        return f"{self.name}{{{', '.join(self.matchers)}}}" if self.matchers else self.name


def total(expression: object, *by: str) -> str:
    """The sum over series, one for each combination of those labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def ratio(part: str, whole: str) -> str:
    """A part of a whole; nothing, rather than not-a-number, where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def less(whole: str, part: str) -> str:
    """The whole without a part. Where the part has no series, that is the whole."""
    return f"({whole} - {part} or {whole})"


def quantile(q: float, buckets: Series, *by: str, window: str = RATE) -> str:
    """A quantile of what a histogram counted within the window; nothing, rather than not-a-number, if that was none."""
    return f"histogram_quantile({q:g}, {total(buckets.rate(window), *by, 'le')}) >= 0"


def or_zero(expression: str) -> str:
    """The expression, or one zero without labels where it has no series at all."""
    return f"({expression}) or on() vector(0)"
