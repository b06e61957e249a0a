"""One line of a source: its number and its cells, or why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Row", "UnusableRow"]


class Row(NamedTuple):
    """A row as it was read.

    :ivar line: where it starts in its file, from 1.
    :ivar cells: by column; an empty cell is None.
    :ivar fault: why it cannot be used; empty when it can.
    :ivar raw: what was read of a faulty one, for the rejects file.
    """

    line: int
    cells: Mapping[str, object]
    fault: str = ""
    raw: object = None


class UnusableRow(ValueError):
    """A row that cannot become a message; the text is the reason."""
