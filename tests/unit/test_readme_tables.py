"""README's tables say what the code declares, no more and no less."""

from __future__ import annotations

import re

from entities import errors
from observe.failure import REASONS
from observe.instruments import Instrument, cluster
from tests.tables import section, table

METRICS = table("Metrics")
ERRORS = table("Errors")

EDGES = re.compile(r"^- \*\*([A-Z])\*\*.*?: ((?:[\d.]+ )+)([a-z]+)", re.MULTILINE)


def edges() -> dict[str, tuple[float, ...]]:
    """The edge lists below the metric table, by letter."""
    return {
        letter: tuple(map(float, values.split())) for letter, values, _ in EDGES.findall(section("Metrics"))
    }


def row_of(instrument: Instrument) -> dict[str, str]:
    """The row that README should have for an instrument, as far as the code knows it."""
    kind: str = instrument.kind
    if instrument.bounds is not None:
        kind += " " + next(letter for letter, bounds in edges().items() if bounds == instrument.bounds)
    return {
        "name": instrument.name,
        "type": kind,
        "unit": instrument.unit,
        "labels": ", ".join(instrument.labels) or "none",
    }


def test_every_instrument_has_its_row() -> None:
    """The metric table lists each instrument once, in order, with its type, edges, unit and labels."""
    listed = [{column: row[column] for column in ("name", "type", "unit", "labels")} for row in METRICS]
    assert listed == [row_of(instrument) for instrument in cluster]


def test_every_metric_says_where_it_is_recorded() -> None:
    """The last column of the metric table names the process that records it."""
    assert {row["where"] for row in METRICS} <= {"sender", "runner", "coordinator", "sender, runner", "node"}


def test_every_error_has_its_row() -> None:
    """The error table lists every leaf of the error tree, which are the values of the `type` label."""
    leaves = [name for name in errors.__all__ if name != "ClusterError"]
    assert sorted(row["reason"] for row in ERRORS) == sorted(leaves) == sorted(REASONS)


def test_the_error_table_agrees_with_the_classes() -> None:
    """The table and each error's class say the same of having run and of sending again."""
    words = {True: "yes", False: "no"}
    for row in ERRORS:
        kind: type[errors.ClusterError] = getattr(errors, row["reason"])
        assert row["send again?"] == words[kind.default_retryable], row["reason"]
        # "says" is for an error that may carry either: its class then starts from the cautious answer.
        expected = "yes" if row["may have run"] == "says" else row["may have run"]
        assert words[kind.default_may_have_run] == expected, row["reason"]
