"""Rows of a CSV file with a header.

It decides which lines are no rows: those that are not CSV, and those with more or fewer cells than the
header.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from cluster_app.replay.refusal import Refusal
from cluster_app.replay.row import Row

__all__ = ["CsvRows"]


class CsvRows:
    """The rows of one CSV stream, in UTF-8 with or without a byte order mark.

    :ivar columns: the header.
    :ivar size: bytes in all, or None.
    """

    def __init__(
        self, name: str, stream: BinaryIO | io.BufferedReader, size: int | None, missing: frozenset[str]
    ) -> None:
        """Read the header. Raises Refusal when there is none, or a name stands in it twice."""
        self.size = size
        self._stream = stream
        # A byte that is not UTF-8 spoils its own cell, not the rest of the file.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._text = text
        self._reader = csv.reader(text, strict=True)
        self._empty = missing | {""}
        try:
            header = next(self._reader)
        except StopIteration:
            raise Refusal(f"{name} is empty", hint="its first line names the columns") from None
        except csv.Error as error:
            raise Refusal(f"the header of {name} is not CSV: {error}") from error
        self.columns: tuple[str, ...] = tuple(column.strip() for column in header)
        twice = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if twice or not any(self.columns):
            problem = f"names twice: {', '.join(twice)}" if twice else "names no column"
            raise Refusal(f"the header of {name} {problem}", hint="its first line names each column once")

    def position(self) -> int:
        """Bytes read so far; 0 where the size is not known either, as a pipe cannot tell."""
        return self._stream.tell() if self.size is not None else 0

    def close(self) -> None:
        """Close the stream."""
        self._text.close()

    def __iter__(self) -> Iterator[Row]:
        """Each row once; blank lines are none."""
        reader, columns, empty = self._reader, self.columns, self._empty
        width = len(columns)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, {}, f"not CSV: {error}")
                continue
            if len(cells) == width:
                if empty.isdisjoint(cells):
                    yield Row(line, dict(zip(columns, cells, strict=True)))
                else:
                    values = [None if cell in empty else cell for cell in cells]
                    yield Row(line, dict(zip(columns, values, strict=True)))
            elif cells:
                yield Row(line, {}, f"{len(cells)} cells where the header has {width}", cells)
