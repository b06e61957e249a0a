"""The record of what happened to a cluster: how it is written while processes die, and how it is read.

Decides the form alone: one JSON object a line, one file per process. What a record shows is `checker`'s business.
Every event has ``e`` (its kind), ``at`` (seconds of one clock that all who write share) and ``pid`` (whose it is).
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Event", "FileScribe", "History", "MemoryScribe", "Scribe", "boottime"]

Event = dict[str, Any]

# What an event of each kind must have beside `e`, `at` and `pid`; more keys are allowed.
_KEYS: dict[str, tuple[str, ...]] = {
    "lease": ("runner", "until"),
    "activated": ("activation", "type", "id", "runner", "epoch", "hosting"),
    "deactivated": ("activation", "reason"),
    "began": ("activation", "token"),
    "done": ("activation", "token", "value"),
    "left": ("runner",),
    "sent": ("sender", "seq", "token", "type", "id", "method", "idempotent"),
    "fate": ("token", "ok"),
    "fault": ("kind", "target", "in_flight"),
    "ended": ("who",),
    "counts": ("name", "labels", "value"),
    "end": (),
}


def boottime() -> float:
    """The clock that all processes of a machine share, and that goes on while it sleeps, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Scribe(Protocol):
    """Who writes events down."""

    def note(self, e: str, /, **keys: Any) -> None:
        """An event of kind `e` happens now; `at` and `pid` are filled in where they are not given."""
        ...


class FileScribe:
    """Writes one process's events to ``<folder>/<who>-<pid>.jsonl``.

    Each event is one `write` to a file opened for appending: a process that is killed has lost nothing of what it
    had noted, and threads need no lock.
    """

    def __init__(self, folder: Path | str, who: str, now: Callable[[], float] = boottime) -> None:
        self._now = now
        self._pid = os.getpid()
        path = Path(folder, f"{who}-{self._pid}.jsonl")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def note(self, e: str, /, **keys: Any) -> None:
        """See `Scribe.note`."""
        line = json.dumps({"e": e, "at": self._now(), "pid": self._pid, **keys}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


class MemoryScribe:
    """Keeps the events of a cluster in memory, in the order in which they happen.

    :ivar events: what was noted.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.events: list[Event] = []
        self._now = now

    def note(self, e: str, /, **keys: Any) -> None:
        """See `Scribe.note`; who has no process of its own says which it is to be."""
        self.events.append({"e": e, "at": self._now(), "pid": 0, **keys})


class History:
    """A whole record, in the order of time.

    Events of one reading of the clock stay in the order in which they were written. So a position in `events` is a
    moment, and `moment` translates a time into one.

    :raises ValueError: an event is of no known kind, or lacks a key of its kind.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.get("at", 0.0))
        self._times = [event["at"] for event in self.events if "at" in event]
        self._by_kind: dict[str, list[int]] = {kind: [] for kind in _KEYS}
        for position, event in enumerate(self.events):
            kind = event.get("e", "")
            keys = _KEYS.get(kind)
            if keys is None:
                raise ValueError(f"no event is called {kind!r}: {event}")
            if missing := [key for key in ("at", "pid", *keys) if key not in event]:
                raise ValueError(f"an event {kind!r} without {', '.join(missing)}: {event}")
            self._by_kind[kind].append(position)

    @classmethod
    def read(cls, folder: Path | str) -> History:
        """The record in a folder: all its ``*.jsonl`` files.

        :raises ValueError: a line is no event; names the file and the line.
        """
        events: list[Event] = []
        for path in sorted(Path(folder).glob("*.jsonl")):
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        events.append(json.loads(line))
                    except ValueError as error:
                        raise ValueError(f"{path}, line {number}: {error}") from error
        return cls(events)

    def write(self, path: Path | str) -> None:
        """Write the record to one file, for instance to keep what a failed run has shown."""
        with Path(path).open("w") as file:
            file.writelines(json.dumps(event) + "\n" for event in self.events)

    def of(self, kind: str) -> list[int]:
        """The moments of all events of a kind, in order."""
        return self._by_kind[kind]

    def moment(self, at: float) -> int:
        """The moment of the first event at this time or later; one after the last if there is none."""

        return bisect_left(self._times, at)

    def __len__(self) -> int:
        return len(self.events)
