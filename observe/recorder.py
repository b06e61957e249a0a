"""Where a process counts: cells of plain numbers, bound once and updated under one lock per batch.

Decides how a count is kept exactly and cheaply. Does not decide what is counted (the instruments) or where it
goes.

An OpenTelemetry ``counter.add`` costs about 6 µs and a ``histogram.record`` 7 µs: at 100,000 messages a
second that would be the whole machine. A cell here is an int, or a list of bucket counts and a float sum. Hot
code does ::

    with recorder.lock:                 # once per batch
        sent.value += len(batch)        # a CounterCell bound when the sender was made
        latency.record_many(latencies)  # a HistogramCell
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar, cast

from observe.cells import CounterCell, HistogramCell, MutedHistogramCell
from observe.instruments import Instrument
from observe.labels import label
from observe.totals import PointKey, PointValue, Totals, merge

__all__ = [
    "CounterCell",
    "GaugeSource",
    "HistogramCell",
    "Recorder",
    "process_gauges",
    "process_recorder",
    "process_totals",
]

logger = logging.getLogger(__name__)

GaugeSource: TypeAlias = Callable[[], Iterable[tuple[Instrument, Mapping[str, str], float]]]
"""Reads the live tables of its owner: (gauge, labels, value) for each point, when asked."""

Cell = TypeVar("Cell", CounterCell, HistogramCell)


class Recorder:
    """The counts of one part of a process: a connection, a runner, or the process itself.

    Several live in one process. `snapshot()` adds them up, closed ones included.

    :ivar lock: held while cells are updated and while they are copied, so that what one batch changes is seen
        whole.
    :ivar enabled: False gives cells that are never collected.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.lock = threading.Lock()
        # Apart from `lock`, so that a cell can be bound by code that is in the middle of a batch.
        self._binding = threading.Lock()
        self._counters: dict[PointKey, CounterCell] = {}
        self._histograms: dict[PointKey, HistogramCell] = {}
        self._sources: dict[object, GaugeSource] = {}
        self._late: list[Callable[[], None]] = []
        self._closed = False
        _register(self)

    def counter(self, instrument: Instrument, **labels: object) -> CounterCell:
        """The cell of a counter with these labels, made at the first call.

        Raises TypeError for another kind, ValueError when the label names are not exactly the instrument's.
        """
        if instrument.kind != "counter":
            raise TypeError(f"{instrument.name} is a {instrument.kind}, not a counter")
        cell = _bound(self._counters, instrument, labels)
        if cell is not None:
            return cell
        key = _key(instrument, labels)
        if not self.enabled:
            return CounterCell()
        with self._binding:
            return self._counters.setdefault(key, CounterCell())

    def histogram(self, instrument: Instrument, **labels: object) -> HistogramCell:
        """The cell of a histogram with these labels, made at the first call. Raises as `counter` does."""
        if instrument.kind != "histogram" or instrument.bounds is None:
            raise TypeError(f"{instrument.name} is a {instrument.kind}, not a histogram")
        cell = _bound(self._histograms, instrument, labels)
        if cell is not None:
            return cell
        key = _key(instrument, labels)
        if not self.enabled:
            return MutedHistogramCell(instrument.bounds)
        with self._binding:
            return self._histograms.setdefault(key, HistogramCell(instrument.bounds))

    def add_gauges(self, source: GaugeSource) -> Callable[[], None]:
        """Have `source` read whenever gauges are collected; the returned function takes it away again."""
        token = object()
        with self._binding:
            self._sources[token] = source

        def remove() -> None:
            with self._binding:
                self._sources.pop(token, None)

        return remove

    def before_reading(self, settle: Callable[[], None]) -> None:
        """Have `settle` called before each reading: it brings in what its owner keeps beside the cells."""
        self._late.append(settle)

    def settle(self) -> None:
        """Bring in what is kept beside the cells. One that fails is logged: what it has, a later reading brings."""
        for settle in self._late:
            try:
                settle()
            except Exception:
                logger.warning("counts kept beside a recorder are not in this reading", exc_info=True)

    def totals(self) -> Totals:
        """A consistent copy of all counters and histograms since the recorder was made.

        A cell that has counted nothing yet is left out: a series exists once its cause has happened.
        """
        self.settle()
        return self.counted()

    def counted(self) -> Totals:
        """What `totals` returns, without bringing in what is kept beside the cells."""
        points: dict[PointKey, PointValue] = {}
        with self.lock, self._binding:
            for key, counter in self._counters.items():
                if counter.value:
                    points[key] = counter.value
            for key, histogram in self._histograms.items():
                if any(histogram.counts):
                    points[key] = (tuple(histogram.counts), histogram.sum)
        return Totals(points)

    def gauges(self) -> Totals:
        """Read all gauge sources, outside the lock; two that name the same point are added up.

        A source that fails is logged and left out: telemetry does not break what it looks at.
        """
        with self._binding:
            sources = list(self._sources.values()) if self.enabled else []
        parts: list[Totals] = []
        for source in sources:
            try:
                # Each point is a part of its own, so that a source naming one twice adds up too.
                parts.extend(
                    [Totals({_gauge_key(gauge, labels): float(value)}) for gauge, labels, value in source()]
                )
            except Exception:
                logger.warning("a gauge source failed and was left out of this collection", exc_info=True)
        return merge(parts)

    def close(self) -> None:
        """Leave the process's list of live recorders. What was counted stays in `snapshot()`, the gauges go.

        Repeating it does nothing. What is counted on its cells afterwards is lost. The process's own recorder
        refuses with RuntimeError: it lives as long as the process.
        """
        _retire(self)


def process_recorder() -> Recorder:
    """The process's own recorder: the one that `track_cluster` and `cluster.<instrument>.add` count on."""
    return _process_recorder


def process_totals() -> Totals:
    """The totals of all recorders this process has ever had: they never go down."""
    with _process_lock:
        recorders = list(_live)
    # Outside the lock: what is brought in may take a while, and may make a recorder.
    for recorder in recorders:
        recorder.settle()
    with _process_lock:
        return merge([_closed_totals, *(recorder.counted() for recorder in _live)])


def process_gauges() -> Totals:
    """The gauges of all live recorders of this process."""
    with _process_lock:
        recorders = list(_live)
    return merge(recorder.gauges() for recorder in recorders)


def _bound(
    cells: Mapping[PointKey, Cell], instrument: Instrument, labels: Mapping[str, object]
) -> Cell | None:
    # Most calls name a cell that exists, with labels that are normal already: one lookup then, and no checks.
    # Any other labels, wrong names included, find nothing and take the way through label().
    if len(labels) != len(instrument.labels):
        return None
    key = (instrument.name, tuple([labels.get(name) for name in instrument.labels]))
    try:
        return cells.get(cast(PointKey, key))
    except TypeError:
        return None  # an unhashable value: label() makes text of it


def _key(instrument: Instrument, labels: Mapping[str, object]) -> PointKey:
    normal = label(**labels)
    if normal.keys() != set(instrument.labels):
        expected = ", ".join(instrument.labels) or "none"
        given = ", ".join(normal) or "none"
        raise ValueError(f"{instrument.name} has the labels: {expected}; given: {given}")
    return instrument.name, tuple(normal[name] for name in instrument.labels)


def _gauge_key(instrument: Instrument, labels: Mapping[str, str]) -> PointKey:
    if instrument.kind != "gauge":
        raise TypeError(f"{instrument.name} is a {instrument.kind}, not a gauge")
    return _key(instrument, labels)


def _register(recorder: Recorder) -> None:
    with _process_lock:
        _live.append(recorder)


def _retire(recorder: Recorder) -> None:
    global _closed_totals
    if recorder is _process_recorder:
        raise RuntimeError("the process's own recorder lives as long as the process")
    recorder.settle()
    # One step under the lock that collection takes: nobody sees the counts twice, or not at all.
    with _process_lock:
        if recorder in _live:
            _live.remove(recorder)
            _closed_totals = merge([_closed_totals, recorder.counted()])


_process_lock = threading.Lock()
_live: list[Recorder] = []
_closed_totals = Totals()
_process_recorder = Recorder()
