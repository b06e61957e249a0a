"""Where rows come from: a CSV or JSON lines file, or standard input.

It decides the format, what a line is, and which lines cannot be read. It converts no values. Files are
streamed: a row is gone when the next one is asked for.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from cluster_app.replay.csv_rows import CsvRows
from cluster_app.replay.json_rows import JsonRows
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.row import Row

__all__ = ["FORMATS", "Source", "open_source"]

FORMATS = ("csv", "jsonl")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Source(Protocol):
    """Rows in the order of their lines.

    :ivar columns: the names every row has; None when each row brings its own.
    :ivar size: bytes in all; None when that is not known.
    """

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names every row has, if known."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes in all, if known."""
        ...

    def position(self) -> int:
        """Bytes read so far."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """Each row once."""
        ...


def open_source(name: str, *, form: str | None = None, missing: frozenset[str] = frozenset()) -> Source:
    """Open a file by its path, or standard input by ``-``.

    Without `form` the suffix decides, else the first character: ``{`` begins JSON lines. Texts in `missing`
    count as empty cells. Raises Refusal when there is no such file or its header is unusable.
    """
    raw, size = _open(name)
    # The peek needs a buffer; position() then tells what has left it.
    stream = io.BufferedReader(raw, 1 << 16) if isinstance(raw, io.RawIOBase) else raw
    form = form or SUFFIXES.get(Path(name).suffix.lower()) or _sniff(stream)
    if form == "jsonl":
        return JsonRows(stream, size, missing)
    try:
        return CsvRows(name, stream, size, missing)
    except Refusal:
        stream.close()
        raise


def _open(name: str) -> tuple[BinaryIO | io.RawIOBase, int | None]:
    if name == "-":
        return sys.stdin.buffer, None
    try:
        raw = io.FileIO(name)
    except FileNotFoundError:
        raise Refusal(
            f"there is no file {name}", hint="give a CSV or JSON lines file, - or flights"
        ) from None
    except OSError as error:
        raise Refusal(f"cannot read {name}: {error.strerror or error}") from error
    status = os.fstat(raw.fileno())
    return raw, status.st_size or None


def _sniff(stream: BinaryIO | io.BufferedReader) -> str:
    peek = getattr(stream, "peek", None)
    start = peek(1).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] if peek is not None else b""
    return "jsonl" if start == b"{" else "csv"
