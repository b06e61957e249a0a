"""How many messages of a run are under way: read from the record while it is written.

Decides nothing. Each sender writes both ends of its messages into one file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["UnderWay"]

_SENT = b'{"e":"sent"'
_FATE = b'{"e":"fate"'


class UnderWay:
    """Reads on in every file of a folder with each question.

    :param has_ended: whether a process has: what it had under way is not any more.
    """

    def __init__(self, folder: Path, has_ended: Callable[[int], bool]) -> None:
        self._folder = folder
        self._has_ended = has_ended
        self._lock = threading.Lock()
        self._read: dict[Path, int] = {}
        self._open: dict[Path, int] = {}
        self.sent = 0

    def now(self) -> int:
        """Messages without a fate whose sender lives."""
        with self._lock:
            for path in self._folder.glob("*.jsonl"):
                self._read_on(path)
            return sum(number for path, number in self._open.items() if not self._has_ended(_pid(path)))

    def by_sender(self) -> dict[str, int]:
        """The same for each sender that has any."""
        self.now()
        return {p.stem: n for p, n in self._open.items() if n and not self._has_ended(_pid(p))}

    def _read_on(self, path: Path) -> None:
        with path.open("rb") as lines:
            lines.seek(self._read.get(path, 0))
            text = lines.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        sent = whole.count(_SENT)
        self.sent += sent
        self._open[path] = self._open.get(path, 0) + sent - whole.count(_FATE)


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
