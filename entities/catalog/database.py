"""A small SQL database of its own for each id, in memory.

It deserves a process of its own: SQLite runs as native code that nothing can interrupt while a query takes its time,
and its rows take the memory they take. In a process that it shares with nobody, neither is anybody else's concern.
It decides nothing about the tables: they are the sender's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from entities import Entity, entity, message

__all__ = ["Database"]

_FILES = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH}


@entity(hosting="actor", max_idle_time=None)
class Database(Entity):
    """A SQLite database in memory; values are what SQLite stores: int, float, str, bytes and None.

    Every message is a transaction: one that raises changes nothing. A statement that would open a file is refused,
    for the file would be one of whichever node it runs on.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.set_authorizer(_allows)

    @message
    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement, with `values` in the places of its question marks. Return the rows it changed.

        Raises sqlite3.Error for what SQLite refuses.
        """
        with self._connection:
            return max(0, self._connection.execute(statement, values).rowcount)

    @message
    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement once for each row of values, all or none. Return the rows it changed."""
        with self._connection:
            return max(0, self._connection.executemany(statement, rows).rowcount)

    @message(idempotent=True)
    def query(
        self, question: str, values: Sequence[Any] = (), at_most: int = 10_000
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT, the first `at_most` of them. Raises ValueError for any other statement."""
        if question.lstrip().partition(" ")[0].partition("\n")[0].upper() not in ("SELECT", "WITH", "VALUES"):
            raise ValueError(f"query() reads; change something with execute(): {question!r}")
        self._connection.execute("PRAGMA query_only = ON")
        try:
            return self._connection.execute(question, values).fetchmany(at_most)
        finally:
            self._connection.execute("PRAGMA query_only = OFF")

    @message(idempotent=True)
    def size(self) -> int:
        """Return the bytes that its tables and indices take."""
        (pages,), (page_bytes,) = (
            self._connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return int(pages) * int(page_bytes)

    @message
    def close(self) -> None:
        """Let it go, with all that it holds; the next message begins an empty one."""
        self.deactivate()

    async def on_deactivate(self, reason: str) -> None:
        """Give the memory back."""
        self._connection.close()


def _allows(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_DENY if action in _FILES else sqlite3.SQLITE_OK
