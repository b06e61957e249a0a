"""The node agent's memory on disk: what it has acknowledged outlives it.

Decides how the state is kept and what happens when it cannot be read or written. Does not decide what the
state is: that is the node agent's work. Trouble with the file is logged and never raised: telemetry does not
break messages.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from observe.journal_state import Change, JournalState, Mark, Record, decode, encode, mark_row, row

__all__ = ["Change", "Journal", "JournalState", "Mark", "Record"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_MEMORY = ":memory:"
# Another process can hold the file only for the length of one transaction.
_LOCK_WAIT_S = 1.0
_LOG_INTERVAL_S = 60.0

_TABLES = """
CREATE TABLE IF NOT EXISTS node (id INTEGER PRIMARY KEY CHECK (id = 0), started_unix_s REAL NOT NULL, retired TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (process TEXT PRIMARY KEY, sequence INTEGER NOT NULL, started_unix_s REAL NOT NULL,
    pid INTEGER NOT NULL, totals TEXT NOT NULL, ended INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS handover (process TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mark (exporter TEXT PRIMARY KEY, at_unix_s REAL NOT NULL, totals TEXT NOT NULL, elsewhere TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tombstone (id INTEGER PRIMARY KEY AUTOINCREMENT, process TEXT NOT NULL UNIQUE);
"""  # noqa: E501


class Journal:
    """A state in one SQLite file, or in memory only (``":memory:"``). One user at a time; any thread.

    A file that cannot be understood is set aside under the name ``<file>.corrupt`` and a new one is begun; a
    place that cannot be written leaves the journal in memory. Both are logged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._logged_at: float | None = None
        self._database = self._open()

    def load(self) -> JournalState | None:
        """Read the state back; None from a journal that is new, or was unreadable and has been begun anew."""
        try:
            return self._read()
        # A row that is no longer what was written raises one of the others.
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            if isinstance(error, sqlite3.Error) and not _means_corrupt(error):
                self._database.close()
                self._database = self._in_memory(error)
            else:
                self._begin_anew(error)
            return None

    def write(self, change: Change) -> bool:
        """Write one step in one transaction. False when it could not be written: then `replace` is due."""

        def step(database: sqlite3.Connection) -> None:
            if change.saved is not None:
                database.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?)", row(change.saved))
            if change.retired is not None:
                database.execute("UPDATE node SET retired = ?", (encode(change.retired),))
            folded = [(process,) for process in change.folded]
            database.executemany("DELETE FROM record WHERE process = ?", folded)
            database.executemany("INSERT OR IGNORE INTO tombstone (process) VALUES (?)", folded)
            database.executemany(
                "DELETE FROM tombstone WHERE process = ?", [(process,) for process in change.forgotten]
            )
            database.executemany(
                "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)", map(mark_row, change.marked)
            )

        return self._try(step)

    def replace(self, state: JournalState) -> bool:
        """Write the whole state in one transaction, whatever was there. False when that failed."""

        def step(database: sqlite3.Connection) -> None:
            for table in ("node", "record", "tombstone", "mark"):
                database.execute(f"DELETE FROM {table}")
            database.execute(
                "INSERT INTO node VALUES (0, ?, ?)", (state.started_unix_s, encode(state.retired))
            )
            database.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", map(row, state.records))
            database.executemany(
                "INSERT INTO tombstone (process) VALUES (?)", [(process,) for process in state.tombstones]
            )
            database.executemany("INSERT INTO mark VALUES (?, ?, ?, ?)", map(mark_row, state.marks))

        return self._try(step)

    def hand_over(self, process: str) -> bool:
        """Note that the account is closed, and under which name it is handed over. False when that failed."""

        def step(database: sqlite3.Connection) -> None:
            database.execute("INSERT INTO handover VALUES (?)", (process,))

        return self._try(step)

    def handed_over(self) -> str | None:
        """The name under which this account is being handed over; None while it is open."""
        try:
            row = self._database.execute("SELECT process FROM handover").fetchone()
        except sqlite3.Error:
            return None  # `load` finds out what is wrong with it
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the file. Everything acknowledged is in it already."""
        self._database.close()

    def _try(self, step: Callable[[sqlite3.Connection], None]) -> bool:
        try:
            with _transaction(self._database):
                step(self._database)
        except sqlite3.Error as error:
            if _means_corrupt(error):
                self._begin_anew(error)
            else:
                self._log_now_and_then(
                    "cannot write the metrics journal %s: %s; counting goes on", self.path, error
                )
            return False
        return True

    def _read(self) -> JournalState | None:
        node = self._database.execute("SELECT started_unix_s, retired FROM node").fetchone()
        if node is None:
            return None
        records = self._database.execute("SELECT * FROM record ORDER BY rowid").fetchall()
        tombstones = self._database.execute("SELECT process FROM tombstone ORDER BY id").fetchall()
        marks = self._database.execute("SELECT * FROM mark ORDER BY exporter").fetchall()
        return JournalState(
            started_unix_s=float(node[0]),
            retired=decode(node[1]),
            records=tuple(
                Record(str(process), int(sequence), float(started), int(pid), decode(totals), bool(ended))
                for process, sequence, started, pid, totals, ended in records
            ),
            tombstones=tuple(str(process) for (process,) in tombstones),
            marks=tuple(
                Mark(str(exporter), float(at), decode(totals), decode(elsewhere))
                for exporter, at, totals, elsewhere in marks
            ),
        )

    def _open(self) -> sqlite3.Connection:
        if self.path == _MEMORY:
            return _connect(_MEMORY)
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            return _connect(self.path)
        except (sqlite3.Error, OSError) as error:
            if _means_corrupt(error):
                return self._reopened(error)
            return self._in_memory(error)

    def _begin_anew(self, error: Exception) -> None:
        self._database.close()
        self._database = self._reopened(error)

    def _reopened(self, error: Exception) -> sqlite3.Connection:
        """Set the file aside, its write-ahead log with it, and open a new one."""
        if self.path == _MEMORY:
            return _connect(_MEMORY)
        aside = f"{self.path}.corrupt"
        logger.error("the metrics journal %s is unreadable (%s): set aside as %s", self.path, error, aside)
        try:
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self.path + suffix):
                    os.replace(self.path + suffix, aside + suffix)
            return _connect(self.path)
        except (sqlite3.Error, OSError) as again:
            return self._in_memory(again)

    def _in_memory(self, error: Exception) -> sqlite3.Connection:
        logger.error(
            "the metrics journal %s cannot be used (%s): totals of this node are kept in memory only "
            "and do not outlive its agent",
            self.path,
            error,
        )
        self.path = _MEMORY
        return _connect(_MEMORY)

    def _log_now_and_then(self, text: str, *values: object) -> None:
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL_S:
            self._logged_at = now
            logger.warning(text, *values)


def _connect(path: str) -> sqlite3.Connection:
    # An actor's methods need not run on the thread that made it; the agent's own lock keeps them apart.
    database = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        # A committed transaction is in the system's page cache, so a kill of the process loses nothing.
        # NORMAL waits for the disk at checkpoints only: a power cut may lose the last transactions, as it
        # loses the processes they are about, but never damages the file (which OFF might).
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _FORMAT):
            raise sqlite3.DatabaseError(f"its format is {found}, this version reads {_FORMAT}")
        database.executescript(_TABLES)
        database.execute(f"PRAGMA user_version = {_FORMAT}")
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _means_corrupt(error: Exception) -> bool:
    # That very class is the content of the file. Those below it are the surroundings (full disk, no rights,
    # locked, closed already) and say nothing against what is written.
    return type(error) is sqlite3.DatabaseError
