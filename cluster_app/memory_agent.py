"""The counts of a memory cluster: one agent for all its processes, asked when somebody wants to know.

Decides what each process reports: its totals, and its gauges as long as it lives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.recorder import Recorder
from observe.snapshot import MetricsSnapshot
from observe.totals import Totals

__all__ = ["MemoryAgent"]


class MemoryAgent:
    """Everything here happens on the cluster's loop.

    :param now: the cluster's clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._agent = NodeAgent(Journal(":memory:"), now)
        self._numbers = itertools.count(1)

    def report(self, process: str, recorder: Recorder, final: bool = False) -> None:
        """A process tells its counts; with `final` for the last time."""
        gauges = recorder.gauges() if recorder.enabled and not final else Totals()
        self._agent.merge(Report(process, next(self._numbers), self._now(), recorder.totals(), gauges, final))

    def ended(self, process: str) -> None:
        """A process has ended without a last report."""
        self._agent.ended(process)

    def snapshot(self) -> MetricsSnapshot:
        """Every count that was reported."""
        return self._agent.snapshot()
