"""The changes of the roster that are still to be written.

Decides that each runner has one change at a time, so that none overtakes another, and when one counts: once it is in
the store and leadership was confirmed after that. Which changes there are is `coordinator`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cluster_app.grants import Epoch
from cluster_app.roster import RosterWrite
from cluster_app.runner_record import RunnerRecord

__all__ = ["RosterChanges"]


class RosterChanges:
    """What one coordinator wants written.

    :param records: every runner that it knows, by id.
    """

    def __init__(self, records: Mapping[str, RunnerRecord]) -> None:
        self._records = records
        self._unwritten: dict[str, RunnerRecord] = {}

    def enter(self, record: RunnerRecord, last_epoch: Epoch) -> None:
        """Want a runner on the roster, for grants after this epoch; see `RunnerRecord.enter`."""
        record.enter(last_epoch)
        self._note(record)

    def strike(self, record: RunnerRecord) -> None:
        """Want a runner off the roster; see `RunnerRecord.strike`."""
        record.strike()
        self._note(record)

    def _note(self, record: RunnerRecord) -> None:
        if record.pending is not None:
            self._unwritten[record.runner_id] = record

    def pending(self) -> list[RosterWrite]:
        """What is to be written; listed until `written` says so."""
        return [record.pending for record in self._unwritten.values() if record.pending is not None]

    def written(self, writes: Iterable[RosterWrite]) -> Iterator[RunnerRecord]:
        """The runners whose entry has changed by these, one by one; what was forgotten meanwhile changes nothing."""
        for write in writes:
            record = self._records.get(write.runner_id)
            if record is None or record.pending is not write:
                continue
            record.pending = None
            del self._unwritten[record.runner_id]
            record.since = write.entry.since if write.entry is not None else None
            yield record
