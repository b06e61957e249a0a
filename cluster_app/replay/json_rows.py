"""Rows of a JSON lines file: one object per line.

It decides which lines are no rows: those that are not JSON, and those that are no object.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import BinaryIO

from cluster_app.replay.row import Row

__all__ = ["JsonRows"]


class JsonRows:
    """The rows of one JSON lines stream, in UTF-8 with or without a byte order mark.

    :ivar columns: None, since each line names its own.
    :ivar size: bytes in all, or None.
    """

    def __init__(
        self, stream: BinaryIO | io.BufferedReader, size: int | None, missing: frozenset[str]
    ) -> None:
        self.columns: tuple[str, ...] | None = None
        self.size = size
        self._stream = stream
        self._missing = missing

    def position(self) -> int:
        """Bytes read so far; 0 where the size is not known either, as a pipe cannot tell."""
        return self._stream.tell() if self.size is not None else 0

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def __iter__(self) -> Iterator[Row]:
        """Each row once; blank lines are none."""
        for number, line in enumerate(self._stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError:
                yield Row(
                    number, {}, "not valid UTF-8", line.decode(errors="backslashreplace").rstrip("\r\n")
                )
            except (ValueError, RecursionError) as error:
                yield Row(number, {}, f"not JSON: {error}", line.decode().rstrip("\r\n"))
            else:
                if not isinstance(value, dict):
                    yield Row(number, {}, "not a JSON object", value)
                    continue
                if self._missing:
                    value = {
                        name: None if isinstance(cell, str) and cell in self._missing else cell
                        for name, cell in value.items()
                    }
                yield Row(number, value)
