"""The list of runners that may hold a shard, kept where it outlives the coordinator.

Two rules make it exact (`coordinator` keeps them):

- a runner is on the roster before its first grant leaves;
- it is off the roster, or on it with a later `since`, before a shard it has not released is granted elsewhere
  (unless its process is proven dead).

So the next term reads here which runners can hold anything, and that what they report is theirs alone. Both
rules need the write to be followed by a confirmation of leadership: either the next term's reading sees the
write, or the confirmation sees the next term. Decides nothing about time.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from cluster_app.grants import Epoch
from cluster_app.kv import KeyValue

__all__ = ["Roster", "RosterEntry", "RosterWrite"]


class RosterEntry(NamedTuple):
    """One runner that may hold shards.

    :ivar node_id: its node; `pid` its process there.
    :ivar since: it may hold only shards whose epoch is greater; what it had before was taken from it.
    """

    node_id: str
    pid: int
    since: Epoch


class RosterWrite(NamedTuple):
    """A change that the coordinator wants written: the runner's new entry, or None to remove it."""

    runner_id: str
    entry: RosterEntry | None


class Roster:
    """The roster of one cluster in a key-value store.

    Every method raises KeyValueUnavailable as the store does.
    """

    def __init__(self, kv: KeyValue, namespace: str) -> None:
        self._kv = kv
        self._prefix = f"{namespace}/roster/"

    def read(self) -> dict[str, RosterEntry]:
        """All entries by runner id. A new term reads them after its claim, never before."""
        entries: dict[str, RosterEntry] = {}
        for key in self._kv.keys(self._prefix):
            value = self._kv.get(key)
            if value is not None:
                fields = json.loads(value)
                since = Epoch(*fields["since"])
                entries[key.removeprefix(self._prefix)] = RosterEntry(fields["node_id"], fields["pid"], since)
        return entries

    def write(self, change: RosterWrite) -> None:
        """Carry out one change. Repeating it is harmless."""
        key = self._prefix + change.runner_id
        if change.entry is None:
            self._kv.delete(key)
        else:
            self._kv.put(key, json.dumps(change.entry._asdict()).encode())
