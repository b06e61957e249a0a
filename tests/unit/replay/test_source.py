"""Rows of CSV and JSON lines, as they are read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cluster_app.replay.refusal import Refusal
from cluster_app.replay.row import Row
from cluster_app.replay.source import open_source


def rows(
    path: Path, content: bytes, missing: frozenset[str] = frozenset(), form: str | None = None
) -> list[Row]:
    """Write a file and read it as a source."""
    path.write_bytes(content)
    source = open_source(str(path), form=form, missing=missing)
    try:
        return list(source)
    finally:
        source.close()


def told(found: list[Row]) -> list[tuple[int, object]]:
    """Line, and cells or fault."""
    return [(row.line, row.fault or row.cells) for row in found]


def test_csv_rows_carry_the_line_they_start_at(tmp_path: Path) -> None:
    """The header is line 1; blank lines and line ends within quotes count as lines, blank ones as no rows."""
    found = rows(tmp_path / "a.csv", b'a,b\n1,2\n\n"x\ny",3\n4,5\n')
    assert told(found) == [
        (2, {"a": "1", "b": "2"}),
        (4, {"a": "x\ny", "b": "3"}),
        (6, {"a": "4", "b": "5"}),
    ]


def test_a_broken_csv_row_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Too many cells, too few, and what is no CSV, each spoil their own row only."""
    found = rows(tmp_path / "a.csv", b'a,b\n1\n1,2,3\n"x"y,2\n5,6\n')
    assert told(found)[:2] == [(2, "1 cells where the header has 2"), (3, "3 cells where the header has 2")]
    assert found[2].line == 4
    assert found[2].fault.startswith("not CSV")
    assert told(found)[3:] == [(5, {"a": "5", "b": "6"})]
    assert found[1].raw == ["1", "2", "3"]


def test_a_quote_that_never_closes_is_a_fault_and_not_a_row(tmp_path: Path) -> None:
    """What follows it cannot be told from its cell, so nothing of it is taken for data."""
    found = rows(tmp_path / "a.csv", b'a,b\n1,2\n"3,4\n5,6\n')
    assert [(row.line, bool(row.fault)) for row in found] == [(2, False), (3, True)]


def test_an_empty_csv_cell_is_none_and_so_is_a_missing_text(tmp_path: Path) -> None:
    """Without being told, `NA` is a text like any other."""
    assert rows(tmp_path / "a.csv", b"a,b\n,NA\n")[0].cells == {"a": None, "b": "NA"}
    assert rows(tmp_path / "a.csv", b"a,b\n,NA\n", frozenset({"NA"}))[0].cells == {"a": None, "b": None}


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    """Spreadsheets write one, in either format."""
    assert rows(tmp_path / "a.csv", b"\xef\xbb\xbfa,b\n1,2\n")[0].cells == {"a": "1", "b": "2"}
    assert rows(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n')[0].cells == {"a": 1}


def test_bytes_that_are_not_utf8_do_not_end_a_csv_file(tmp_path: Path) -> None:
    """The row comes, with a cell that conversion will refuse, and so do later ones."""
    found = rows(tmp_path / "a.csv", b"a,b\ncaf\xe9,2\n3,4\n")
    assert found[0].cells == {"a": "caf\udce9", "b": "2"}
    assert found[1].cells == {"a": "3", "b": "4"}


def test_json_lines_that_are_no_objects_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """What is no JSON, no object or no UTF-8 spoils its own line only; blank lines are none."""
    found = rows(tmp_path / "a.jsonl", b'{"a": 1}\n\n[1]\n{"a":\n{"a": "\xff"}\n{"a": null, "b": "NA"}\n')
    assert [row.line for row in found] == [1, 3, 4, 5, 6]
    assert [row.fault.partition(":")[0] for row in found] == [
        "",
        "not a JSON object",
        "not JSON",
        "not valid UTF-8",
        "",
    ]
    assert found[4].cells == {"a": None, "b": "NA"}
    assert rows(tmp_path / "b.jsonl", b'{"a": "NA", "b": []}\n', frozenset({"NA"}))[0].cells == {
        "a": None,
        "b": [],
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"\n1,2\n", "names no column"), (b"a,b,a\n1,2,3\n", "names twice: a")],
)
def test_a_csv_file_needs_a_header_that_names_each_column_once(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    """Otherwise no cell could be told from another."""
    with pytest.raises(Refusal, match=problem):
        rows(tmp_path / "a.csv", content)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """And so is a folder."""
    with pytest.raises(Refusal, match="there is no file"):
        open_source(str(tmp_path / "none.csv"))
    with pytest.raises(Refusal, match="cannot read"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("content", [b'{"a": "1"}\n', b"a\n1\n"])
def test_without_a_suffix_the_first_character_tells_the_format(tmp_path: Path, content: bytes) -> None:
    """A brace begins JSON lines; anything else is a header."""
    assert [row.cells for row in rows(tmp_path / "data", content)] == [{"a": "1"}]


def test_a_given_format_wins_over_the_suffix(tmp_path: Path) -> None:
    """A CSV file may have any name."""
    assert [row.cells for row in rows(tmp_path / "a.jsonl", b"a\n1\n", form="csv")] == [{"a": "1"}]


@pytest.mark.parametrize("content", [b'{"a": "1"}\n', b"a\n1\n"])
def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """In either format, without knowing its size."""
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))
    monkeypatch.setattr(sys, "stdin", stdin)
    source = open_source("-")
    assert [row.cells for row in source] == [{"a": "1"}]
    assert (source.size, source.position()) == (None, 0)


def test_the_position_reaches_the_size_at_the_end(tmp_path: Path) -> None:
    """So a progress bar ends full."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 50_000)
    source = open_source(str(path))
    iterator = iter(source)
    next(iterator)
    size = path.stat().st_size
    assert source.size == size
    assert source.position() < size
    assert sum(1 for _ in iterator) == 49_999
    assert source.position() == size
    source.close()
