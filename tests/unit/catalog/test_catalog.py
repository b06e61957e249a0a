"""The catalog's entities, as plain objects: their methods are called, no cluster is there."""

from __future__ import annotations

import inspect
import sqlite3
from pathlib import Path

import pytest

from entities import Entity
from entities.catalog import Aircraft, Airport, Counter, Database
from entities.declaration import define


def public(entity: Entity) -> dict[str, object]:
    """The public attributes of a plain object."""
    return {name: value for name, value in vars(entity).items() if not name.startswith("_")}


def test_a_counter_adds_up_and_returns_the_sum() -> None:
    """Each increment returns the sum so far; without an argument it adds one; negative numbers count too."""
    counter = Counter()
    assert [counter.increment(), counter.increment(41), counter.increment(-2)] == [1, 42, 40]
    assert counter.read() == counter.value == 40


def test_an_aircraft_sums_what_it_flew() -> None:
    """Flights, miles and known minutes add up; carrier and destination are those of the latest flight."""
    aircraft = Aircraft()
    assert aircraft.fly("UA", "IAH", 1400, 227) == 1
    assert aircraft.fly("EV", "ORD", 719) == 2
    assert aircraft.read() == {
        "flights": 2,
        "miles": 2119,
        "air_time_min": 227,
        "carrier": "EV",
        "destination": "ORD",
    }


def test_an_airport_counts_each_kind_of_movement_by_itself() -> None:
    """A movement adds to its own total alone; delays add up, early ones as negative, unknown ones not."""
    airport = Airport()
    assert [airport.departed(-4), airport.departed(10), airport.departed()] == [1, 2, 3]
    assert [airport.arrived(7), airport.arrived(None)] == [1, 2]
    assert airport.diverted() == 1
    assert airport.cancelled() == 1
    assert airport.read() == {
        "departures": 3,
        "arrivals": 2,
        "diversions": 1,
        "cancellations": 1,
        "departure_delay_min": 6,
        "arrival_delay_min": 7,
    }


@pytest.mark.parametrize("kind", [Aircraft, Airport])
def test_what_is_read_is_every_public_attribute(kind: type[Aircraft | Airport]) -> None:
    """No attribute is forgotten in `read`, so a state written down is the whole state."""
    entity = kind()
    assert entity.read() == public(entity)


@pytest.mark.parametrize("kind", [Aircraft, Airport, Counter, Database])
def test_the_catalog_never_passivates(kind: type[Entity]) -> None:
    """Totals in memory would be lost with the entity, so it is never let go for being idle."""
    assert define(kind).options.max_idle_time is None


@pytest.mark.parametrize("kind", [Aircraft, Airport, Counter, Database])
def test_every_public_method_is_a_declared_message(kind: type[Entity]) -> None:
    """What a catalog class defines by a public name can be sent to it."""
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name in vars(kind)}
    public_methods = {name for name in methods if not name.startswith("_")}
    assert public_methods - set(vars(Entity)) == set(define(kind).messages)


@pytest.fixture
def database() -> Database:
    """A database with one table of two rows."""
    database = Database()
    database.execute("CREATE TABLE leg (origin TEXT, miles INTEGER)")
    assert database.execute_many("INSERT INTO leg VALUES (?, ?)", [("JFK", 2475), ("LGA", 733)]) == 2
    return database


def test_a_database_keeps_rows_and_answers_questions(database: Database) -> None:
    """Values go in by question marks; a question gives rows as tuples, so many at most."""
    assert database.query("SELECT miles FROM leg WHERE origin = ?", ["JFK"]) == [(2475,)]
    assert database.query("WITH far AS (SELECT * FROM leg) SELECT sum(miles) FROM far") == [(3208,)]
    assert database.query("SELECT origin FROM leg ORDER BY miles", at_most=1) == [("LGA",)]
    assert database.execute("UPDATE leg SET miles = 0") == 2
    assert database.size() > 0


def test_a_failed_statement_changes_nothing(database: Database) -> None:
    """All rows of one message or none."""
    with pytest.raises(sqlite3.Error):
        database.execute_many("INSERT INTO leg VALUES (?, ?)", [("EWR", 1), ("EWR", 2, 3)])
    assert database.query("SELECT count(*) FROM leg") == [(2,)]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM leg", "WITH all_of AS (SELECT 1) DELETE FROM leg", "PRAGMA user_version = 7"],
)
def test_a_question_changes_nothing(database: Database, statement: str) -> None:
    """query() is declared idempotent, so it must not write, however the statement begins."""
    with pytest.raises((ValueError, sqlite3.Error)):
        database.query(statement)
    assert database.query("SELECT count(*) FROM leg") == [(2,)]
    assert database.execute("DELETE FROM leg") == 2  # what may write still does


def test_a_database_opens_no_file(database: Database, tmp_path: Path) -> None:
    """Neither to read nor to write: the file would be one of whichever node it runs on."""
    for statement in (f"ATTACH '{tmp_path}/x' AS other", f"VACUUM INTO '{tmp_path}/x'"):
        with pytest.raises(sqlite3.Error, match=r"not authorized|denied"):
            database.execute(statement)
    assert list(tmp_path.iterdir()) == []
