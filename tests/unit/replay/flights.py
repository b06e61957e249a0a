"""A few flights in a file like the real one, for tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

from cluster_app.replay.flights_file import FlightsFile

__all__ = ["HEADER", "LEFT_AND_ARRIVED", "flights_file"]

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,"
    "carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)


def flight(
    dep_time: str = "517",
    dep_delay: str = "2",
    arr_time: str = "830",
    arr_delay: str = "11",
    tailnum: str = "N1",
    origin: str = "EWR",
    dest: str = "IAH",
    air_time: str = "227",
    distance: str = "1400",
) -> str:
    """One row."""
    return (
        f"2013,1,1,{dep_time},515,{dep_delay},{arr_time},819,{arr_delay},"
        f"UA,1545,{tailnum},{origin},{dest},{air_time},{distance},5,15,2013-01-01T10:00:00Z"
    )


LEFT_AND_ARRIVED = flight()
ARRIVED_WITHOUT_DELAY = flight(arr_delay="NA", air_time="NA", dest="ORD", distance="719")
DIVERTED = flight(arr_time="NA", arr_delay="NA", air_time="NA", tailnum="N2", origin="JFK", dest="MIA")
CANCELLED = flight(dep_time="NA", dep_delay="NA", arr_time="NA", arr_delay="NA", air_time="NA", origin="LGA")
CANCELLED_WITHOUT_TAIL = CANCELLED.replace("N1", "NA")
LEFT_WITHOUT_TAIL = flight(tailnum="NA")
LEFT_WITHOUT_DISTANCE = flight(distance="far")
CUT_SHORT = "2013,1,1,517"

ALL = (
    LEFT_AND_ARRIVED,
    ARRIVED_WITHOUT_DELAY,
    DIVERTED,
    CANCELLED,
    CANCELLED_WITHOUT_TAIL,
    LEFT_WITHOUT_TAIL,
    LEFT_WITHOUT_DISTANCE,
    CUT_SHORT,
)


def flights_file(folder: Path, rows: tuple[str, ...] = ALL, header: str = HEADER) -> FlightsFile:
    """Zip some rows as the package does."""
    path = folder / "flights.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flights.csv", "\n".join((header, *rows, "")))
    return FlightsFile(path)
