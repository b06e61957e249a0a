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
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from cluster_app.grants import Epoch
from cluster_app.kv import KeyValue, KeyValueUnavailable
from cluster_app.leadership import TERM_DIGITS

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
    """The roster of one cluster in a key-value store, as one coordinator keeps it.

    Each term has a list of its own, under its own key, and that of the highest term counts. So what a coordinator that
    stood still writes when it goes on, long after its successors have read, changes nothing: were it the same list,
    an entry that was struck since would be back, and its runner believed.

    Every method raises KeyValueUnavailable as the store does.
    """

    def __init__(self, kv: KeyValue, namespace: str) -> None:
        self._kv = kv
        self._prefix = f"{namespace}/roster/"
        self._key = ""
        self._entries: dict[str, RosterEntry] = {}

    def entries(self) -> dict[str, RosterEntry]:
        """All entries by runner id, as of now."""
        while keys := self._kv.keys(self._prefix):
            value = self._kv.get(max(keys))
            if value is not None:  # else a later term has taken it over just now
                rows = json.loads(value)
                return {
                    runner_id: RosterEntry(node_id, pid, Epoch(*since))
                    for runner_id, (node_id, pid, since) in rows.items()
                }
        return {}

    def take_over(self, term: int) -> dict[str, RosterEntry]:
        """Make the list of the terms before the one of this term, and return it. After the claim, never before."""
        self._entries = self.entries()
        self._key = f"{self._prefix}{term:0{TERM_DIGITS}d}"
        self._store()
        # Worth one try: lists of earlier terms are a few bytes, and nobody reads them any more.
        with suppress(KeyValueUnavailable):
            for key in self._kv.keys(self._prefix):
                if key < self._key:
                    self._kv.delete(key)
        return dict(self._entries)

    def write(self, changes: Iterable[RosterWrite]) -> None:
        """Carry out changes. Repeating them is harmless. RuntimeError before `take_over`."""
        if not self._key:
            raise RuntimeError("a roster is taken over before it is changed")
        for runner_id, entry in changes:
            if entry is None:
                self._entries.pop(runner_id, None)
            else:
                self._entries[runner_id] = entry
        self._store()

    def _store(self) -> None:
        self._kv.put(self._key, json.dumps(self._entries).encode())
