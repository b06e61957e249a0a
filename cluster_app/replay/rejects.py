"""The rows that could not be used: counted, the first few remembered, all of them written when asked.

It decides what is told of a rejected row. It does not decide which rows those are.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from cluster_app.replay.refusal import Refusal

__all__ = ["Rejects"]

REMEMBERED = 10


class Rejects:
    """Rows left out, each with its line number and reason.

    :ivar count: how many there were.
    :ivar first: line and reason of the first few.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Count only, or also write one JSON line ``{"line", "reason", "row"}`` each to `path`.

        Raises Refusal when the file cannot be written.
        """
        self.count = 0
        self.first: list[tuple[int, str]] = []
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise Refusal(f"cannot write {path}: {error.strerror or error}") from error

    def add(self, line: int, reason: str, row: object) -> None:
        """Leave out the row that starts at `line`."""
        self.count += 1
        if len(self.first) < REMEMBERED:
            self.first.append((line, reason))
        if self._file is not None:
            record = {"line": line, "reason": reason, "row": row}
            self._file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")

    def __enter__(self) -> Rejects:
        """Keep the file open until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
