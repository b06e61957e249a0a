"""What every aircraft's and airport's totals must be: the plain way, with csv and Counter and nothing else.

It is the measure the cluster's answer is held against, so it shares no code with what is measured: no entity,
no message, no row of the feeding side. What it has in common with that side is the rule, and only in words:

- a flight left when ``dep_time`` is known, and arrived when ``arr_time`` is known too; else it was diverted;
- a flight that did not leave counts at its origin, whatever its tail number (2,512 of them have none);
- a row that lacks a name or a number it needs counts nowhere: a flight that left and has no tail number, for
  one.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from itertools import islice

__all__ = ["FlightTotals", "count_flights"]

UNKNOWN = ("", "NA")

Key = tuple[str, str, str]  # type, id, attribute


class FlightTotals:
    """Totals by (type, id, attribute).

    :ivar sums: numbers that add up; an absent one is 0.
    :ivar latest: texts of which the last one holds.
    :ivar entities: every (type, id) that a row names.
    :ivar unusable: rows that count nowhere.
    """

    def __init__(self) -> None:
        self.sums: Counter[Key] = Counter()
        self.latest: dict[Key, str] = {}
        self.entities: set[tuple[str, str]] = set()
        self.unusable = 0


def count_flights(lines: Iterable[str], limit: int | None = None) -> FlightTotals:
    """Count the first `limit` flights of a CSV, or all."""
    totals = FlightTotals()
    sums, latest = totals.sums, totals.latest
    rows = filter(None, csv.reader(lines))
    header = next(rows, [])
    for cells in islice(rows, limit):
        if len(cells) != len(header):
            totals.unusable += 1
            continue
        row = dict(zip(header, cells, strict=True))
        tail, origin, dest = row["tailnum"], row["origin"], row["dest"]
        if row["dep_time"] in UNKNOWN:
            if origin in UNKNOWN:
                totals.unusable += 1
                continue
            sums["Airport", origin, "cancellations"] += 1
            totals.entities.add(("Airport", origin))
            continue
        try:
            miles = int(row["distance"])
            air_time = 0 if row["air_time"] in UNKNOWN else int(row["air_time"])
            departure_delay = 0 if row["dep_delay"] in UNKNOWN else int(row["dep_delay"])
            arrival_delay = 0 if row["arr_delay"] in UNKNOWN else int(row["arr_delay"])
        except ValueError:
            totals.unusable += 1
            continue
        if tail in UNKNOWN or origin in UNKNOWN or dest in UNKNOWN:
            totals.unusable += 1
            continue
        sums["Aircraft", tail, "flights"] += 1
        sums["Aircraft", tail, "miles"] += miles
        sums["Aircraft", tail, "air_time_min"] += air_time
        latest["Aircraft", tail, "carrier"] = row["carrier"]
        latest["Aircraft", tail, "destination"] = dest
        sums["Airport", origin, "departures"] += 1
        sums["Airport", origin, "departure_delay_min"] += departure_delay
        if row["arr_time"] in UNKNOWN:
            sums["Airport", dest, "diversions"] += 1
        else:
            sums["Airport", dest, "arrivals"] += 1
            sums["Airport", dest, "arrival_delay_min"] += arrival_delay
        totals.entities.update((("Aircraft", tail), ("Airport", origin), ("Airport", dest)))
    return totals
