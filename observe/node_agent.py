"""The sum of a node: merges what its processes report, and forgets none of it.

Decides which report counts, and what stays of a process that has ended. Does not decide how reports travel or
when a process is dead: it is told.

A process reports its *cumulative* totals under a growing sequence number. Merging is replacing: a report that
is repeated, late or out of order cannot count twice. An ended process's totals are folded into one retired
sum, so that neither series nor memory grow with the number of processes that have lived.

What each exporter has got through is marked in the journal: what it tells next begins there, whoever died in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from observe.exemplars import Exemplars
from observe.exponential import ExponentialTotal
from observe.instruments import cluster
from observe.journal import Change, Journal, JournalState, Mark, Record
from observe.reading import Reading
from observe.report import Report
from observe.snapshot import MetricsSnapshot
from observe.totals import PointKey, PointValue, Totals, merge, subtract
from observe.user_series import SeriesBound, is_user, stream_of

__all__ = ["NodeAgent", "Report"]

_INSTRUMENTS = {instrument.name: instrument for instrument in cluster}


class NodeAgent:
    """Merges reports and keeps their sum; restores it from its journal.

    :param journal: what is merged is in it before `merge` returns.
    :param now: Unix time in seconds.
    :param max_ended: so many of the last ended processes are still open for a report that their end has
        overtaken.
    :param max_tombstones: so many processes ended before those are remembered by name, and their reports
        ignored.
    """

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], float],
        *,
        max_ended: int = 256,
        max_tombstones: int = 10_000,
    ) -> None:
        self.exemplars = Exemplars()
        self._lock = threading.Lock()
        self._journal = journal
        self._now = now
        self._max_ended = max_ended
        self._max_tombstones = max_tombstones
        state = journal.load()
        self._handover = journal.handed_over()
        # The journal lacks what memory holds: it is new, or a write failed. Until it is whole again, each
        # write writes everything, for a step upon a missed step would restore a wrong sum.
        self._behind = state is None
        if state is None:
            state = JournalState(started_unix_s=now())
        self._started_unix_s = state.started_unix_s
        self._retired = state.retired
        # Gauges are not in the journal: after a restart they are unknown until the next report.
        self._gauges: dict[str, Totals] = {}
        self._readings: dict[str, Totals] = {}  # of the user's instruments; whoever told last is last
        self._marks = {mark.exporter: mark for mark in state.marks}
        self._live = {record.process: record for record in state.records if not record.ended}
        self._ended = {record.process: record for record in state.records if record.ended}
        self._tombstones = dict.fromkeys(state.tombstones)
        self._series = SeriesBound(key for part in self._parts() for key in part)
        if self._behind:
            self._behind = not journal.replace(state)

    @property
    def started(self) -> float:
        """Unix time in seconds at which this node began to count; no restart of the agent changes it."""
        return self._started_unix_s

    def merge(self, report: Report) -> bool:
        """Let the report take the place of its process's last one, and say whether it did.

        False for one that is not newer, or is of a process whose account is closed. When it returns, the
        report is in the journal. Raises ValueError, and changes nothing, when the report holds what is not a
        declared metric, or the account is closed.
        """
        _check(report.totals)
        _check(report.gauges)
        with self._lock:
            if self._handover is not None:
                raise ValueError("the node's account is closed; another one takes this report")
            if report.process in self._tombstones:
                return False
            overtaken = report.process in self._ended
            before = self._ended.get(report.process) or self._live.get(report.process)
            if before is not None and report.sequence <= before.sequence:
                return False
            self.exemplars.merge(report.exemplars)
            counted, readings = self._of_the_user(report.instruments)
            record = Record(
                report.process,
                report.sequence,
                report.started_unix_s,
                report.pid,
                merge([report.totals, counted]) if counted else report.totals,
                ended=overtaken,
            )
            if report.final:
                self._forget(report.process)
                self._commit(replace(self._fold([record]), marked=self._adopt(report.exported)))
            elif overtaken:
                # Its end came first, by another way: the counts are as true as if it had not.
                self._ended[report.process] = record
                self._commit(Change(saved=record))
            else:
                self._live[report.process] = record
                self._gauges[report.process] = report.gauges
                self._readings.pop(report.process, None)
                self._readings[report.process] = readings
                self._commit(Change(saved=record))
            return True

    def ended(self, process: str) -> None:
        """Take note that a process is gone: its gauges go at once, its counts stay for good.

        A report of it may still be on its way, and is counted. Repeating it changes nothing; a process not
        heard of yet will not count as living when its first report comes.
        """
        with self._lock:
            if process in self._tombstones or process in self._ended:
                return
            record = self._live.get(process) or Record(process, -1, 0.0, 0, Totals())
            self._forget(process)
            record = replace(record, ended=True)
            self._ended[process] = record
            excess = list(self._ended.values())[: max(0, len(self._ended) - self._max_ended)]
            for old in excess:
                del self._ended[old.process]
            self._commit(replace(self._fold(excess), saved=None if record in excess else record))

    @property
    def open(self) -> bool:
        """Whether the account takes reports; once it is handed over it does not."""
        return self._handover is None

    def hand_over(self, process: str) -> Report | None:
        """Close the account for good; its sum, to be merged elsewhere as if one process had counted it all.

        The name is in the journal before this returns. So whoever finds the journal hands the same sum over under the
        same name, and that a repeat counts once is the receiver's doing. None, and nothing is closed, while processes
        live or the journal cannot be written.

        :param process: a name that no process and no other account has; one given earlier stands.
        """
        with self._lock:
            if self._handover is None:
                if self._live or self._behind or not self._journal.hand_over(process):
                    return None
                self._handover = process
            name = self._handover
            counted = merge(self._parts())
            exported = {mark.exporter: merge([mark.totals, mark.elsewhere]) for mark in self._marks.values()}
        return Report(
            name,
            0,
            self._started_unix_s,
            _declared(counted),
            final=True,
            instruments=Totals({key: value for key, value in counted.items() if is_user(key)}),
            exported=exported,
        )

    def totals(self) -> Totals:
        """The node's counters and histograms: of all processes that live or have lived on it."""
        with self._lock:
            return _declared(merge(self._parts()))

    def gauges(self) -> Totals:
        """The node's gauges: the sum of what its living processes last reported."""
        with self._lock:
            return merge(self._gauges.values())

    def reading(self, exporter: str) -> Reading:
        """What this node has to tell now, by an exporter of that name, and what that has got through already.

        Without what other nodes, whose accounts are in this one's sum, have told themselves: whoever adds all nodes up
        must not count it twice.
        """
        with self._lock:
            mark = self._marks.get(exporter) or Mark(exporter, self._started_unix_s)
            own = merge(self._parts())
            if mark.elsewhere:
                own = subtract(own, mark.elsewhere)
            return Reading(
                self._started_unix_s,
                mark.at_unix_s,
                max(self._now(), mark.at_unix_s),
                _never_less(own, mark.totals),
                mark.totals,
                merge(self._gauges.values()),
                self._latest(),
                self.exemplars,
            )

    def acknowledged(self, exporter: str, reading: Reading) -> None:
        """All of this has reached whoever takes it from that exporter; it is in the journal when this returns."""
        with self._lock:
            before = self._marks.get(exporter)
            elsewhere = Totals() if before is None else before.elsewhere
            mark = Mark(exporter, reading.at_unix_s, reading.totals, elsewhere)
            self._marks[exporter] = mark
            self._commit(Change(marked=(mark,)))

    def snapshot(self) -> MetricsSnapshot:
        """Totals and gauges as one view."""
        return MetricsSnapshot(merge([self.totals(), self.gauges()]))

    def processes(self) -> tuple[str, ...]:
        """The names of the processes that have reported and not ended."""
        with self._lock:
            return tuple(self._live)

    def has_ended(self, process: str) -> bool:
        """Whether this process has ended, or was said to, for as long as its name is remembered."""
        with self._lock:
            return process in self._ended or process in self._tombstones

    def pids(self) -> dict[str, int]:
        """The process id of each of `processes()`, 0 where it reported none.

        After a restart of the agent: whose end it may have missed.
        """
        with self._lock:
            return {process: record.pid for process, record in self._live.items()}

    def _parts(self) -> list[Totals]:
        return [
            self._retired,
            *(record.totals for record in self._ended.values()),
            *(record.totals for record in self._live.values()),
        ]

    def _of_the_user(self, instruments: Totals) -> tuple[Totals, Totals]:
        """What stays counted of the user's points, and what is so only as long as its process lives."""
        if not instruments:
            return instruments, instruments
        counted: dict[PointKey, PointValue] = {}
        readings: dict[PointKey, PointValue] = {}
        for key, value in self._series.admitted(instruments).items():
            (counted if stream_of(key[0]).adds_up else readings)[key] = value
        return Totals(counted), Totals(readings)

    def _latest(self) -> Totals:
        """The user's readings of all living processes: up-down counters added up, gauges as told last."""
        points: dict[PointKey, PointValue] = {}
        for readings in self._readings.values():
            for key, value in readings.items():
                if isinstance(value, float) and stream_of(key[0]).kind == "updown":
                    before = points.get(key, 0.0)
                    value += before if isinstance(before, float) else 0.0
                points[key] = value
        return Totals(points)

    def _adopt(self, exported: Mapping[str, Totals]) -> tuple[Mark, ...]:
        """What an account that is taken over has told under its own node's name, this one does not tell again."""
        changed: list[Mark] = []
        for exporter, totals in exported.items():
            mark = self._marks.get(exporter) or Mark(exporter, self._started_unix_s)
            # Under the keys by which this node counts them.
            told = Totals(
                {
                    **_declared(totals),
                    **self._series.admitted(
                        Totals({key: value for key, value in totals.items() if is_user(key)})
                    ),
                }
            )
            mark = replace(mark, elsewhere=merge([mark.elsewhere, told]))
            self._marks[exporter] = mark
            changed.append(mark)
        return tuple(changed)

    def _forget(self, process: str) -> None:
        self._live.pop(process, None)
        self._ended.pop(process, None)
        self._gauges.pop(process, None)
        self._readings.pop(process, None)

    def _fold(self, records: list[Record]) -> Change:
        if not records:
            return Change()
        self._retired = merge([self._retired, *(record.totals for record in records)])
        folded = tuple(record.process for record in records)
        self._tombstones.update(dict.fromkeys(folded))
        forgotten = tuple(self._tombstones)[: max(0, len(self._tombstones) - self._max_tombstones)]
        for process in forgotten:
            del self._tombstones[process]
        return Change(folded=folded, retired=self._retired, forgotten=forgotten)

    def _commit(self, change: Change) -> None:
        if not self._behind and self._journal.write(change):
            return
        self._behind = not self._journal.replace(
            JournalState(
                self._started_unix_s,
                self._retired,
                (*self._ended.values(), *self._live.values()),
                tuple(self._tombstones),
                tuple(self._marks.values()),
            )
        )


def _declared(totals: Totals) -> Totals:
    return Totals({key: value for key, value in totals.items() if not is_user(key)})


def _never_less(totals: Totals, told: Totals) -> Totals:
    """The same, with no sum of floats below what was told of it.

    When parts are folded they are added in another order, and the last bit of a sum may go down. Whoever reads it as a
    counter would take that for a restart, and count all of it again.
    """
    points: dict[PointKey, PointValue] = dict(totals)
    for key, before in told.items():
        now = points.get(key)
        if isinstance(now, tuple) and isinstance(before, tuple) and now[1] < before[1]:
            points[key] = now[0], before[1]
        if (
            isinstance(now, ExponentialTotal)
            and isinstance(before, ExponentialTotal)
            and now.sum < before.sum
        ):
            points[key] = replace(now, sum=before.sum)
    return Totals(points)


def _check(totals: Totals) -> None:
    for key, value in totals.items():
        if not _is_declared(key, value):
            raise ValueError(f"{key} = {value!r} is not a point of any declared metric")


def _is_declared(key: PointKey, value: PointValue) -> bool:
    instrument = _INSTRUMENTS.get(key[0])
    if instrument is None or len(key[1]) != len(instrument.labels):
        return False
    if instrument.bounds is not None:
        return isinstance(value, tuple) and len(value[0]) == len(instrument.bounds) + 1
    return isinstance(value, int if instrument.kind == "counter" else float)
