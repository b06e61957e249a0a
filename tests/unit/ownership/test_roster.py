"""The list of runners that may hold a shard: one for each term, and the highest counts."""

from __future__ import annotations

import pytest

from cluster_app.grants import Epoch
from cluster_app.kv import MemoryKeyValue
from cluster_app.roster import Roster, RosterEntry, RosterWrite

ENTRY = RosterEntry("node", 7, Epoch(1, 3))


def rosters(kv: MemoryKeyValue, number: int) -> list[Roster]:
    """Of so many coordinators."""
    return [Roster(kv, "test") for _ in range(number)]


def test_a_new_term_has_what_the_one_before_wrote_last() -> None:
    """Entries, and that one was struck."""
    first, second = rosters(MemoryKeyValue(), 2)
    assert first.take_over(1) == {}
    first.write([RosterWrite("a", ENTRY), RosterWrite("b", ENTRY)])
    first.write([RosterWrite("b", None)])
    assert second.take_over(2) == {"a": ENTRY} == first.entries()


def test_what_a_coordinator_that_stood_still_writes_changes_nothing_for_its_successors() -> None:
    """Its write was on the way when it lost its term: the runner that a later one has struck must not be back."""
    first, second, third = rosters(MemoryKeyValue(), 3)
    first.take_over(1)
    first.write([RosterWrite("a", ENTRY)])
    second.take_over(2)
    second.write([RosterWrite("a", None)])
    first.write([RosterWrite("a", ENTRY)])
    assert third.take_over(3) == {}


def test_taking_over_late_undoes_nothing() -> None:
    """A coordinator that claimed a term and stood still takes over after the next one: what that one wrote counts."""
    first, second, third = rosters(MemoryKeyValue(), 3)
    first.take_over(1)
    third.take_over(3)
    third.write([RosterWrite("a", ENTRY)])
    second.take_over(2)
    second.write([RosterWrite("a", None)])
    assert first.entries() == {"a": ENTRY}


def test_a_list_that_is_taken_over_while_it_is_read_is_read_again() -> None:
    """It is gone under its old name just then; an empty roster would let shards be granted that somebody serves."""
    kv = MemoryKeyValue()
    first, second, third = rosters(kv, 3)
    first.take_over(1)
    first.write([RosterWrite("a", ENTRY)])
    read = kv.get

    def late(key: str) -> bytes | None:
        kv.get = read  # type: ignore[method-assign]  # once
        second.take_over(2)
        return read(key)

    kv.get = late  # type: ignore[method-assign]  # what comes between the two questions
    assert third.take_over(3) == {"a": ENTRY}


def test_it_is_taken_over_before_it_is_changed() -> None:
    """Else nobody knows whose list it is."""
    with pytest.raises(RuntimeError, match="taken over"):
        Roster(MemoryKeyValue(), "test").write([RosterWrite("a", ENTRY)])
