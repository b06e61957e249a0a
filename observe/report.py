"""What one process tells its node's agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from observe.totals import Totals

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What one process has counted so far.

    :ivar process: unique for each incarnation of a reporter; never used again.
    :ivar sequence: grows with every report of that process; 0 or more.
    :ivar started_unix_s: when the process began to count.
    :ivar totals: counters and histograms since then.
    :ivar gauges: its gauges as they are now.
    :ivar final: it will not report again.
    """

    process: str
    sequence: int
    started_unix_s: float
    totals: Totals
    gauges: Totals = field(default_factory=Totals)
    final: bool = False
    pid: int = 0
