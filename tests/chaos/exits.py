"""Which processes of a run have ended, and when: each is watched from its introduction on.

Decides nothing about why. The exit is seen by pidfd, so it is never reported before it has happened.
"""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

from tests.chaos.history import FileScribe, boottime
from tests.chaos.processes import Introduction, Processes

__all__ = ["Exits"]

_LOOK_MS = 50


class Exits:
    """A thread that watches every process that introduces itself in a folder."""

    def __init__(self, folder: Path) -> None:
        self._processes = Processes(folder)
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[Introduction, float]] = {}
        self._watched: dict[int, list[Introduction]] = {}
        self._pids: dict[int, int] = {}  # descriptor to process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="exits", daemon=True)
        self._thread.start()

    def living(self, role: str, node: str | None = None) -> list[Introduction]:
        """The processes of a role that have not ended, the youngest first: of one node, or of all."""
        with self._lock:
            return [p for p in self._processes.of(role, node) if p.pid not in self._seen]

    def has_ended(self, pid: int) -> bool:
        """Whether its exit was seen."""
        with self._lock:
            return pid in self._seen

    def node_of(self, pid: int) -> str:
        """The node that a process lives on, or lived."""
        with self._lock:
            found = self._watched.get(pid)
        return found[0].node if found else ""

    def note(self, scribe: FileScribe, lost_nodes: set[str]) -> None:
        """Write down all exits seen so far, and watch no more.

        :param lost_nodes: whose counts went with them, so that none of their processes' ends has left a whole account.
        """
        self._over.set()
        self._thread.join()
        for pid, (process, at) in self._seen.items():
            orderly = pid in self._processes.orderly and process.node not in lost_nodes
            scribe.note("ended", at=at, pid=pid, who=process.who, role=process.role, orderly=orderly)

    def _watch(self) -> None:
        poll = select.poll()
        while not self._over.is_set():
            with self._lock:
                for process in self._processes.news():
                    self._begin(process, poll)
            for descriptor, _ in poll.poll(_LOOK_MS):
                at = boottime()
                poll.unregister(descriptor)
                os.close(descriptor)
                with self._lock:
                    pid = self._pids.pop(descriptor)
                    self._seen[pid] = self._watched[pid][0], at

    def _begin(self, process: Introduction, poll: select.poll) -> None:
        if process.pid in self._watched:
            self._watched[process.pid].append(process)  # it has two roles
            return
        self._watched[process.pid] = [process]
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._seen[process.pid] = process, boottime()
            return
        self._pids[descriptor] = process.pid
        poll.register(descriptor, select.POLLIN)
