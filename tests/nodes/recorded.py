"""Entities that write down their lives, each handler's beginning and end, and the leases of the runners they live on.

Each cluster has a folder of its own for what `tests.chaos.checker` then looks at: it is named after its namespace.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import cast

from cluster_app import Entity, entity, message, ray_inside
from cluster_app.runner import Runner
from tests.chaos.history import FileScribe
from tests.chaos.leases import note_lease, record_leases
from tests.chaos.recorded_entity import RecordedEntity, Teller

__all__ = ["Account", "Clock", "Recorded", "Subject", "folder_of"]

_scribes: list[FileScribe] = []
_recording: list[AbstractContextManager[None]] = []


def folder_of(namespace: str) -> Path:
    """Where a cluster's record is: in the folder of the Ray that this process belongs to."""
    folder = Path(os.environ["RAY_TMPDIR"], "record", namespace)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Recorded(RecordedEntity):
    """Recorded in its runner's process, whose leases are from its first entity on."""

    def __init__(self) -> None:
        runner = cast(Runner, self._activation.hosted.host.crew._gate)
        if not _scribes:
            _scribes.append(FileScribe(folder_of(*ray_inside._parts), runner.runner_id))
            # The lease under which this begins was there before; those that follow are noted by themselves.
            _scribes[0].note("lease", runner=runner.runner_id, until=runner.until)
            _recording.append(
                record_leases(partial(note_lease, _scribes[0]))
            )  # kept: it ends with its object
            _recording[0].__enter__()
        self.record(_scribes[0], runner.runner_id, runner.runner_id)


@entity(max_idle_time=None)
class Account(Recorded, Teller):
    """Asked for all that there is."""


@entity(max_idle_time=None)
class Subject(Entity):
    """Not recorded: it tells whom its runner obeys."""

    @message
    def term(self) -> int:
        return cast(Runner, self._activation.hosted.host.crew._gate).tenure.term


@entity(max_idle_time=None)
class Clock(Recorded):
    """The cluster keeps one of each type."""

    @message(idempotent=True)
    def look(self, token: str) -> str:
        self.began(token)
        return self.done(token)
