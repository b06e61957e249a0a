"""Columns to parameters, cells to arguments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from cluster_app.replay.binding import Binding
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.row import UnusableRow
from cluster_app.replay.target import Target, find_target
from tests.unit.replay.fleet import Car

FLEET = "tests.unit.replay.fleet"


def bound(
    method: str, columns: Sequence[str] | None, **cells: object
) -> tuple[list[object], dict[str, object]]:
    """The arguments that one row gives."""
    return Binding(Target(Car, method), "id", columns).arguments(cells)


def test_columns_bind_by_name_and_convert_by_annotation() -> None:
    """In whatever order they stand; columns that no parameter names are ignored."""
    arguments = bound(
        "drive",
        ["driver", "id", "colour", "km", "day"],
        km="1.5",
        driver="Ada",
        colour="red",
        day="2013-01-31",
    )
    assert arguments == ([1.5, "Ada", date(2013, 1, 31)], {})


def test_an_empty_cell_leaves_the_entity_its_default() -> None:
    """The argument is not sent at all, so the default of the class that runs holds."""
    assert bound("drive", ["id", "km", "driver", "day"], km="1", driver=None, day=None) == ([1.0], {})


def test_an_empty_cell_is_none_where_none_is_allowed_and_there_is_no_default() -> None:
    """Optional without a default takes None."""
    assert bound("park", None, entity_id="a", self_parking=None) == (["a", None], {})


def test_what_stands_behind_a_parameter_left_out_is_given_by_name() -> None:
    """Be it left out by an empty cell or for want of a column; and so is what can only be given by name."""
    by_name = ([1.0], {"day": date(2013, 1, 31)})
    assert bound("drive", ["id", "km", "driver", "day"], km="1", driver=None, day="2013-01-31") == by_name
    assert bound("drive", ["id", "km", "day"], km="1", day="2013-01-31") == by_name
    assert bound("park", None, entity_id="a", self_parking=True, level=2) == (["a", True], {"level": 2})


def test_a_positional_only_parameter_is_given_by_position() -> None:
    """With its default when its cell is empty or it has no column: what stands behind it needs it there."""
    assert bound("tow", ["id", "by", "far"], by="crane", far="3") == (["crane", 3], {})
    for columns in (["id", "by", "far"], ["id", "far"]):
        assert bound("tow", columns, by=None, far="3") == (["truck", 3], {})


def test_a_parameter_without_annotation_takes_the_cell_as_it_is() -> None:
    """And `**rest` takes nothing: columns are ignored unless named."""
    assert bound("take", ["id", "anything", "rest"], anything="1", rest="2") == (["1"], {})


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"km": None}, "km is empty"),
        ({}, "km is missing"),
        ({"km": "far"}, "km: 'far' is not a float"),
        ({"km": "1", "day": "soon"}, "day: 'soon' is not a date in ISO 8601"),
    ],
)
def test_a_row_that_does_not_fit_is_unusable_for_a_reason(cells: dict[str, Any], reason: str) -> None:
    """The reason names the column."""
    with pytest.raises(UnusableRow) as caught:
        bound("drive", None, **cells)
    assert str(caught.value) == reason


@pytest.mark.parametrize(("value", "entity_id"), [("a", "a"), (7, "7"), ("ü" * 256, "ü" * 256)])
def test_the_key_column_gives_the_id(value: object, entity_id: str) -> None:
    """A whole number of JSON is an id too, as its digits."""
    assert Binding(Target(Car, "drive"), "id", None).entity_id({"id": value}) == entity_id


@pytest.mark.parametrize("value", [None, "", True, 1.5, ["a"], "x" * 513, "\udce9"])
def test_a_key_that_is_no_id_makes_the_row_unusable(value: object) -> None:
    """Empty, of another type, too long, or no valid Unicode."""
    with pytest.raises(UnusableRow, match=r"^id"):
        Binding(Target(Car, "drive"), "id", None).entity_id({"id": value})


@pytest.mark.parametrize(
    ("method", "columns", "problem"),
    [
        ("drive", ["km"], "no column id"),
        ("drive", ["id", "driver"], r"no column km, which Car\.drive needs"),
        ("load", ["id", "goods"], r"Car\.load: parameter goods: list"),
    ],
)
def test_a_file_without_the_columns_is_refused_before_anything_is_sent(
    method: str, columns: list[str], problem: str
) -> None:
    """A key or a needed parameter without a column, or one that no column can fill."""
    with pytest.raises(Refusal, match=problem):
        Binding(Target(Car, method), "id", columns)


def test_a_target_is_found_by_module_class_and_message() -> None:
    """The module is imported, the class and its declared message are looked up."""
    assert find_target(f"{FLEET}:Car", "drive") == Target(Car, "drive")


@pytest.mark.parametrize(
    ("spec", "method", "problem", "hint", "exit_code"),
    [
        ("fleet", "drive", "is not module:Class", "fleet.cars:Car", 2),
        ("no_such_module:Car", "drive", "there is no module no_such_module", "run from the folder", 1),
        (f"{FLEET}.deep:Car", "drive", f"there is no module {FLEET}.deep", "run from the folder", 1),
        (f"{FLEET}:Cart", "drive", "has no class Cart", "did you mean Car?", 1),
        (f"{FLEET}:NoEntity", "drive", "is not an entity", "(Entity)", 1),
        (f"{FLEET}:FLEET", "drive", "has no class FLEET", "Car, Mute", 1),
        (f"{FLEET}:Car", "drvie", "Car has no method drvie", "did you mean drive?", 1),
        (f"{FLEET}:Car", "secret", "does not declare as a message: secret", "drive, load", 1),
        (f"{FLEET}:Car", "__init__", "does not declare as a message: __init__", "drive, load", 1),
    ],
)
def test_a_target_that_is_not_there_is_refused_with_a_hint(
    spec: str, method: str, problem: str, hint: str, exit_code: int
) -> None:
    """Each kind of mistake says what is wrong and what there is instead."""
    with pytest.raises(Refusal) as caught:
        find_target(spec, method)
    assert problem in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == exit_code
