"""Labels: what may be one, and what becomes of a value."""

from __future__ import annotations

import enum
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observe import labels
from observe.instruments import cluster
from observe.labels import MAX_VALUE_CHARACTERS, MAX_VALUES_PER_LABEL, OTHER, UNKNOWN, label
from observe.recorder import Recorder


class Outcome(enum.Enum):
    """An enum as a user has it."""

    OK = "ok"


class Method(enum.StrEnum):
    """A text enum as a user has it."""

    LAND = "land"


class Aircraft:
    """A class as a user has it."""


class Shouting(str):
    """Text whose own str() says something else."""

    def __str__(self) -> str:
        return "SHOUTED"


@pytest.fixture
def fresh_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test use up the bound without using it up for the others."""
    monkeypatch.setattr(labels, "_seen", {name: set(values) for name, values in labels._seen.items()})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        (Outcome.OK, "ok"),
        (Method.LAND, "land"),
        (Aircraft, "Aircraft"),
        (None, UNKNOWN),
        ("", UNKNOWN),
        (7, "7"),
        (Shouting("quiet"), "quiet"),
        ("a\nb\x00c\td", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d"),
        ("\ud800x", "\N{REPLACEMENT CHARACTER}x"),
        ("Müller 東京", "Müller 東京"),
        ("x" * 500, "x" * MAX_VALUE_CHARACTERS),
    ],
)
def test_a_value_becomes_bounded_text(raw: object, text: str) -> None:
    """Classes, enums, None, control characters and long text each have one form."""
    assert label(method=raw) == {"method": text}


@given(st.text())
def test_normalising_twice_changes_nothing_more(raw: str) -> None:
    """A value that has been through label() names the same series when it goes through again."""
    once = labels.normalised(raw)
    assert labels.normalised(once) == once
    assert 0 < len(once) <= MAX_VALUE_CHARACTERS
    once.encode()


@pytest.mark.parametrize("name", ["entity_id", "id", "process", "pid", "runner_id"])
def test_an_id_or_a_process_is_never_a_label(name: str) -> None:
    """The refusal names the rule: each id would make a series of its own, without end."""
    with pytest.raises(ValueError, match=r"makes a series for each.*Labels are: .*entity_type"):
        label(**{name: "x"})


def test_a_label_of_no_metric_is_refused() -> None:
    """A misspelt label is an error and not a new series."""
    with pytest.raises(ValueError, match="'entitytype' is not a label of any metric"):
        label(entitytype="A")


def test_values_beyond_the_bound_become_other_and_those_seen_stay(fresh_values: None) -> None:
    """A flood of values makes one series more, whatever it holds."""
    seen = {label(method=f"m{number}")["method"] for number in range(MAX_VALUES_PER_LABEL * 3)}
    assert OTHER in seen
    assert len(seen) <= MAX_VALUES_PER_LABEL
    assert label(method="m0") == {"method": "m0"}
    assert label(method="brand new") == {"method": OTHER}
    assert label(entity_type="brand new") == {"entity_type": "brand new"}


def test_a_flood_does_not_push_the_declared_vocabulary_out(fresh_values: None) -> None:
    """The values that the contract names count under their own names however late they come."""
    for number in range(MAX_VALUES_PER_LABEL * 2):
        label(type=f"t{number}", outcome=f"o{number}", reason=f"r{number}", operation=f"p{number}")
    assert label(type="HandlerError", outcome="error", reason="idle", operation="broadcast") == {
        "type": "HandlerError",
        "outcome": "error",
        "reason": "idle",
        "operation": "broadcast",
    }


def test_a_recorder_never_has_more_series_than_the_bound(fresh_values: None) -> None:
    """Counting under ever new values ends in one shared cell, and no count is lost."""
    recorder = Recorder()
    for number in range(MAX_VALUES_PER_LABEL * 2):
        recorder.counter(cluster.entity_activations, entity_type=f"T{number}").value += 1
    totals = recorder.totals()
    assert len(totals) <= MAX_VALUES_PER_LABEL
    assert sum(value for value in totals.values() if isinstance(value, int)) == MAX_VALUES_PER_LABEL * 2
    recorder.close()


def test_the_bound_holds_when_threads_race_for_the_last_places(fresh_values: None) -> None:
    """Two threads cannot both take the last place."""
    barrier = threading.Barrier(4)

    def flood(worker: int) -> None:
        barrier.wait()
        for number in range(600):
            label(direction=f"{worker}-{number}")

    threads = [threading.Thread(target=flood, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(labels._seen["direction"]) == MAX_VALUES_PER_LABEL


def test_labels_are_plain_text_that_pickles() -> None:
    """What goes into a report is str itself, not a user's class that the agent could not load."""
    bounded = label(entity_type=Shouting("quiet"), outcome=Outcome.OK, method=Method.LAND)
    assert {type(value) for value in bounded.values()} == {str}
    assert pickle.loads(pickle.dumps(bounded)) == bounded
