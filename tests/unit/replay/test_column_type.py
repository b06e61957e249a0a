"""How a cell becomes an argument."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, NewType, Optional

import pytest

from cluster_app.replay.column_type import column_type

TailNumber = NewType("TailNumber", str)


@pytest.mark.parametrize(
    ("annotation", "cell", "value"),
    [
        (int, " 12 ", 12),
        (int, 12, 12),
        (int, 3.0, 3),
        (float, "1e3", 1000.0),
        (float, 2, 2.0),
        (bool, "TRUE", True),
        (bool, "no", False),
        (bool, "0", False),
        (bool, 1, True),
        (bool, False, False),
        (str, "NA", "NA"),
        (str, "Zürich", "Zürich"),
        (str, 7, "7"),
        (date, "2013-01-31", date(2013, 1, 31)),
        (datetime, "2013-01-01T10:00:00Z", datetime(2013, 1, 1, 10, tzinfo=UTC)),
        (Any, [1], [1]),
        (int | None, "4", 4),
        (Optional[date], "2013-01-31", date(2013, 1, 31)),  # noqa: UP045  # users write it, so it has to work
        (Annotated[int, "miles"], "5", 5),
        (TailNumber, "N14228", "N14228"),
    ],
)
def test_a_cell_becomes_what_the_annotation_says(annotation: object, cell: object, value: object) -> None:
    """Texts and JSON values are converted to exactly the annotated type."""
    converted = column_type(annotation).convert(cell)
    assert (converted, type(converted)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "cell", "reason"),
    [
        (int, "3.5", "'3.5' is not an int"),
        (int, "NA", "'NA' is not an int"),
        (int, True, "True is not an int"),
        (int, 3.5, "3.5 is not an int"),
        (float, "far", "'far' is not a float"),
        (float, False, "False is not a float"),
        (float, 10**400, "is not a float"),
        (bool, "maybe", "'maybe' is not a bool"),
        (bool, 2, "2 is not a bool"),
        (str, {"a": 1}, "{'a': 1} is not a str"),
        (str, 1.5, "1.5 is not a str"),
        (str, "caf\udce9", "is not valid UTF-8"),
        (date, "31.1.2013", "is not a date"),
        (datetime, "soon", "is not a datetime"),
    ],
)
def test_a_cell_that_does_not_fit_says_so(annotation: object, cell: object, reason: str) -> None:
    """The reason names the value and the type it is not."""
    with pytest.raises(ValueError, match="is not") as caught:
        column_type(annotation).convert(cell)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("annotation", [list[int], int | str, dict, bytes])
def test_an_annotation_that_no_column_can_fill_is_refused(annotation: object) -> None:
    """It is refused when the run starts, not row by row."""
    with pytest.raises(TypeError):
        column_type(annotation)


def test_only_what_may_be_none_is_optional() -> None:
    """`int | None` and Any take None; plain types do not."""
    assert [column_type(kind).optional for kind in (int | None, Any, int, str)] == [True, True, False, False]
