"""What a node agent remembers, and its written form.

Decides what a state consists of, what one step from it to the next is, and how totals look on disk. Does
not decide when a step is taken (the node agent) or how it is made durable (the journal).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from observe.exponential import Buckets, ExponentialTotal
from observe.totals import PointKey, PointValue, Totals

__all__ = ["Change", "JournalState", "Mark", "Record", "decode", "encode", "mark_row", "row"]


@dataclass(frozen=True, slots=True)
class Record:
    """What one process has counted, by its last report.

    :ivar ended: it is gone, though a report of it may still be on its way.
    """

    process: str
    sequence: int
    started_unix_s: float
    pid: int
    totals: Totals
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one exporter has got.

    :ivar exporter: its name.
    :ivar at_unix_s: up to when counts have been acknowledged by whoever takes them.
    :ivar totals: what the node had counted until then.
    :ivar elsewhere: what nodes whose accounts are in this one's sum had exported of them under their own names.
    """

    exporter: str
    at_unix_s: float
    totals: Totals = field(default_factory=Totals)
    elsewhere: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class JournalState:
    """All that a journal holds; records and tombstones in the order in which they were last written."""

    started_unix_s: float
    retired: Totals = field(default_factory=Totals)
    records: tuple[Record, ...] = ()
    tombstones: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One step from a state to the next, written as a whole or not at all.

    :ivar saved: this record is new, or takes the place of the process's last one.
    :ivar folded: the records of these processes are gone into `retired`; each leaves a tombstone.
    :ivar retired: the retired sum after it, when something was folded.
    :ivar forgotten: these tombstones are dropped.
    :ivar marked: these take the place of the marks of their exporters.
    """

    saved: Record | None = None
    folded: tuple[str, ...] = ()
    retired: Totals | None = None
    forgotten: tuple[str, ...] = ()
    marked: tuple[Mark, ...] = ()


def row(record: Record) -> tuple[str, int, float, int, str, int]:
    """The columns of a record."""
    return (
        record.process,
        record.sequence,
        record.started_unix_s,
        record.pid,
        encode(record.totals),
        int(record.ended),
    )


def mark_row(mark: Mark) -> tuple[str, float, str, str]:
    """The columns of a mark."""
    return mark.exporter, mark.at_unix_s, encode(mark.totals), encode(mark.elsewhere)


def encode(totals: Totals) -> str:
    """Totals as text that `decode` reads back as exactly the same totals."""
    # JSON, not pickle: a file that somebody else can write to must not be able to run code. Python writes a
    # float so that it reads back as the same float, and keeps 1 and 1.0 apart.
    return json.dumps(
        [[name, values, value] for (name, values), value in totals.items()],
        separators=(",", ":"),
        default=asdict,  # an exponential histogram
    )


def decode(text: str) -> Totals:
    """Totals from text. Raises ValueError, TypeError or KeyError for what `encode` has not written."""
    points: dict[PointKey, PointValue] = {}
    for name, values, value in json.loads(text):
        if isinstance(value, dict):
            value = _exponential(**value)
        elif isinstance(value, list):
            counts, values_sum = value
            value = (tuple(int(count) for count in counts), float(values_sum))
        elif not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a point's value")
        points[(str(name), tuple(str(label) for label in values))] = value
    return Totals(points)


def _exponential(scale: Any, sum: Any, zero: Any, positive: Any, negative: Any) -> ExponentialTotal:
    return ExponentialTotal(int(scale), float(sum), int(zero), _buckets(**positive), _buckets(**negative))


def _buckets(offset: Any, counts: Any) -> Buckets:
    return Buckets(int(offset), tuple([int(count) for count in counts]))
