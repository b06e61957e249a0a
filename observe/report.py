"""What one process tells its node's agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from observe.exemplars import Exemplar
from observe.span_batch import SpanBatch
from observe.totals import PointKey, Totals

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
    :ivar pid: its process id; 0 when it is none of this node's.
    :ivar instruments: the points of the user's own OpenTelemetry instruments, as `user_series` writes them.
    :ivar exported: of an account that is handed over: what each exporter has got through of it already.
    :ivar spans: spans that have ended, those again whose arrival is not certain.
    :ivar exemplars: the latest sampled message of each bucket of each point.
    """

    process: str
    sequence: int
    started_unix_s: float
    totals: Totals
    gauges: Totals = field(default_factory=Totals)
    final: bool = False
    pid: int = 0
    instruments: Totals = field(default_factory=Totals)
    exported: Mapping[str, Totals] = field(default_factory=dict)
    spans: SpanBatch = field(default_factory=SpanBatch)
    exemplars: Mapping[PointKey, tuple[Exemplar, ...]] = field(default_factory=dict)
