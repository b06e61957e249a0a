"""Who each process of a run is: it introduces itself, so that the one who makes faults finds it without asking.

Decides the form of these notes: one JSON object a line in ``<folder>/processes``, one file for all of them. A cluster
whose coordinator stands still can't be asked who its runners are.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple

from tests.chaos.history import FileScribe, boottime

__all__ = [
    "FOLDER",
    "Introduction",
    "Processes",
    "farewell",
    "introduce",
    "runner_here",
    "scribe",
    "scribe_name",
]

FOLDER = "CHAOS_RECORD"  # the environment variable that says where the record is kept
_FILE = "processes"

_mine: FileScribe | None = None
_name = _runner = ""


class Introduction(NamedTuple):
    """One process.

    :ivar role: runner, entity (one with a process of its own), agent, coordinator or driver.
    :ivar who: its name: a runner's id, a sender's, a coordinator's incarnation.
    """

    role: str
    who: str
    node: str
    pid: int


def introduce(role: str, who: str, node: str, *, runner: str = "", **more: object) -> None:
    """Say who this process is. What it records from now on is under this name.

    :param runner: the runner under whose lease its entities live, if that is another one.
    """
    global _mine, _name, _runner
    folder = os.environ[FOLDER]
    if _mine is None:
        _mine = FileScribe(folder, who.replace("/", "+"))
    _name, _runner = who, runner or who
    warnings = logging.FileHandler(Path(folder, f"{who.replace('/', '+')}.log"), delay=True)
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)
    _tell({"role": role, "who": who, "node": node, "pid": os.getpid(), "at": boottime(), **more})


def farewell() -> None:
    """This process has nothing more to tell and ends in good order."""
    if _mine is not None:
        _tell({"role": "ending", "who": _name, "node": "", "pid": os.getpid(), "at": boottime()})


def _tell(note: dict[str, object]) -> None:
    path = Path(os.environ[FOLDER], _FILE)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.write(descriptor, json.dumps(note).encode() + b"\n")
    os.close(descriptor)


def scribe() -> FileScribe:
    """Who records what happens in this process; it has been introduced."""
    assert _mine is not None, "this process has not been introduced"
    return _mine


def scribe_name() -> str:
    """Under which name this process was introduced."""
    return _name


def runner_here() -> str:
    """The runner under whose lease the entities of this process live."""
    return _runner


class Processes:
    """Who has been introduced.

    :ivar orderly: the processes that have told that they end in good order.
    """

    def __init__(self, folder: Path) -> None:
        self.orderly: set[int] = set()
        self._path = folder / _FILE
        self._read = 0
        self._found: list[Introduction] = []

    def news(self) -> list[Introduction]:
        """Those that were introduced since the last question."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as lines:
            lines.seek(self._read)
            text = lines.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        told = [json.loads(line) for line in whole.splitlines()]
        self.orderly |= {note["pid"] for note in told if note["role"] == "ending"}
        new = [
            Introduction(note["role"], note["who"], note["node"], note["pid"])
            for note in told
            if note["role"] != "ending"
        ]
        self._found += new
        return new

    def of(self, role: str, node: str | None = None) -> list[Introduction]:
        """Those heard of of a role, the youngest first: of one node, or of all. Some may have ended."""
        return [
            process
            for process in reversed(self._found)
            if process.role == role and (node is None or process.node == node)
        ]
