"""What a process keeps of its sampled messages until its node's agent has it: spans and exemplars.

Decides in which time they are told: Unix time, made of the clock that the process measures by.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from observe.exemplars import Exemplars
from observe.span_buffer import SpanBuffer
from observe.totals import PointKey

__all__ = ["Traces", "process_traces"]


class Traces:
    """The spans and exemplars of one process.

    :param unix_ns: a reading of that clock, in seconds, as Unix time in nanoseconds.
    :param now: that clock.
    """

    def __init__(self, unix_ns: Callable[[float], int], now: Callable[[], float]) -> None:
        self.unix_ns = unix_ns
        self._now = now
        self.spans = SpanBuffer(self.now_ns, self._zero_ns)
        self._exemplars = Exemplars()

    @property
    def exemplars(self) -> Exemplars:
        """The exemplars, of all spans that have ended."""
        self.spans.settle()
        return self._exemplars

    def note(self, key: PointKey, value: float, at_ns: int, trace_id: int, span_id: int) -> None:
        """See `Exemplars.note`; for who tells a span."""
        self._exemplars.note(key, value, at_ns, trace_id, span_id)

    def share(self) -> Traces:
        """Another process's, played in this one: it keeps what it has in the same place until it is `cut`."""
        shared = Traces(self.unix_ns, self._now)
        shared.spans, shared._exemplars = self.spans, self._exemplars
        return shared

    def cut(self) -> None:
        """That process was killed: whatever it still does is not told."""
        self.spans.settle()
        self.spans, self._exemplars = SpanBuffer(self.now_ns, self._zero_ns), Exemplars()

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        return self.unix_ns(self._now())

    def _zero_ns(self) -> int:
        return self.unix_ns(0.0)


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _unix_ns(at_s: float) -> int:
    # The two clocks drift apart by what the machine's time is corrected: so they are compared anew each time.
    return time.time_ns() - round((_boottime() - at_s) * 1e9)


process_traces = Traces(_unix_ns, _boottime)
