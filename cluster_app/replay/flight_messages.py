"""Flights to messages: which aircraft and airports a flight concerns.

It decides what each row says to whom:

- a flight that left (``dep_time`` known): its aircraft flew, its origin saw it depart, and its destination
  saw it arrive (``arr_time`` known) or be diverted elsewhere;
- one that did not leave: its origin saw it cancelled. No aircraft hears of it; many of these have no tail
  number;
- a flight that left without a tail number, or a row without a place or a number it needs, is rejected whole:
  no part of it is sent. The 2013 data has none of these.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice

from cluster_app.replay.feeder import Feeder
from cluster_app.replay.flights_file import FlightsFile
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.row import UnusableRow
from entities import Entity
from entities.catalog import Aircraft, Airport

__all__ = ["FlightMessages"]

UNKNOWN = frozenset({"", "NA"})
COLUMNS = (
    *("dep_time", "dep_delay", "arr_time", "arr_delay", "carrier"),
    *("tailnum", "origin", "dest", "air_time", "distance"),
)


class FlightMessages:
    """The workload of ``replay flights``."""

    kinds: tuple[type[Entity], ...] = (Aircraft, Airport)

    def __init__(self, file: FlightsFile, limit: int | None = None) -> None:
        """Feed the first `limit` rows of a file, or all."""
        self._file = file
        self._limit = limit
        self.size: int | None = file.size if limit is None else None

    def position(self) -> int:
        """Bytes of the CSV read so far."""
        return self._file.position()

    def feed(self, feeder: Feeder, rejects: Rejects, row_done: Callable[[], None]) -> None:
        """Send about three messages per row. Raises Refusal when a column is not there."""
        fly = feeder.route(Aircraft, "fly").send
        departed = feeder.route(Airport, "departed").send
        arrived = feeder.route(Airport, "arrived").send
        diverted = feeder.route(Airport, "diverted").send
        cancelled = feeder.route(Airport, "cancelled").send
        with self._file.open() as text:
            rows = csv.reader(text)
            header = next(rows, [])
            for column in COLUMNS:
                if column not in header:
                    raise Refusal(
                        f"{self._file.path} has no column {column}", hint="reinstall the flights' package"
                    )
            # By position, not as dicts: this loop runs 336,776 times.
            at = [header.index(column) for column in COLUMNS]
            dep_time, dep_delay, arr_time, arr_delay, carrier, tailnum, origin, dest, air_time, distance = at
            for row in islice(filter(None, rows), self._limit):
                try:
                    if len(row) != len(header):
                        raise UnusableRow(f"{len(row)} cells where the header has {len(header)}")
                    if row[dep_time] in UNKNOWN:
                        cancelled(_known(row[origin], "origin"))
                    else:
                        aircraft = _known(row[tailnum], "tailnum")
                        start, end = _known(row[origin], "origin"), _known(row[dest], "dest")
                        flown, minutes = int(row[distance]), _minutes(row[air_time])
                        left_late, came_late = _minutes(row[dep_delay]), _minutes(row[arr_delay])
                        fly(aircraft, row[carrier], end, flown, minutes)
                        departed(start, left_late)
                        if row[arr_time] in UNKNOWN:
                            diverted(end)
                        else:
                            arrived(end, came_late)
                except ValueError as error:
                    rejects.add(rows.line_num, _reason(error), dict(zip(header, row, strict=False)))
                row_done()


def _reason(error: ValueError) -> str:
    return str(error) if isinstance(error, UnusableRow) else f"a number cannot be read: {error}"


def _known(name: str, column: str) -> str:
    if name in UNKNOWN:
        raise UnusableRow(f"{column} is unknown")
    return name


def _minutes(cell: str) -> int | None:
    return None if cell in UNKNOWN else int(cell)
