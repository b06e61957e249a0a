"""The record of a cluster in memory: who stands for which process, and what its entities and senders write down.

Decides nothing about what happens. The entities are those of `memory_entities`; messages are sent by `Record.send`, so
that each has its token, its sending and its fate in the record.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster_app import ClusterError, Entity, EntityResponse
from cluster_app.broadcast import Broadcaster
from cluster_app.memory_annex import _Process as OwnProcess
from cluster_app.runner import Runner
from cluster_app.testing import MemoryCluster
from entities.declaration import define
from tests.chaos.broadcasts import EVERYBODY, told_by
from tests.chaos.history import Event, MemoryScribe

__all__ = ["DRIVER", "Record", "being_current", "current_record", "process_of", "recording_ends"]

DRIVER = "driver"


class Record:
    """What is written down of one cluster.

    :ivar open: messages without a fate, by token.
    :ivar over: it has its end.
    """

    def __init__(self, cluster: MemoryCluster) -> None:
        self._scribe = MemoryScribe(cluster.clock.now)
        self._pids: dict[str, int] = {}
        self._sequences: dict[str, Iterator[int]] = {}
        self._activations = itertools.count(1)
        self._ended: set[str] = set()
        self.open: dict[str, EntityResponse[Any]] = {}
        self.over = False

    @property
    def events(self) -> list[Event]:
        """What was written down so far."""
        return self._scribe.events

    def note(self, e: str, process: str, **keys: Any) -> None:
        """An event of a process; what is heard of one that has ended is its afterlife in this one, and nobody's."""
        if process not in self._ended:
            self._scribe.note(e, pid=self.pid(process), **keys)

    def pid(self, process: str) -> int:
        """The number of a process, by its name: a runner's id, or what an entity's own process is called."""
        return self._pids.setdefault(process, len(self._pids) + 1)

    def ended(self, process: str, *, orderly: bool = False) -> None:
        """It ends now, and nothing of it happens after.

        :param orderly: it has told what it had counted.
        """
        self.note("ended", process, who=process, orderly=orderly)
        self._ended.add(process)

    def lease(self, runner: Runner) -> None:
        """A runner has its lease."""
        self.note("lease", runner.runner_id, runner=runner.runner_id, until=runner.tenure.lease_end)

    def activated(self, entity: Entity) -> str:
        """An entity comes to life; returns the name of the activation."""
        name, process = f"life-{next(self._activations)}", process_of(entity)
        hosting = "actor" if "/" in process else "shard"
        self.note(
            "activated",
            process,
            activation=name,
            type=entity.address.type,
            id=entity.address.id,
            runner=process.partition("/")[0],
            epoch=list(entity.epoch),
            hosting=hosting,
        )
        return name

    def send(
        self, process: str, reference: Any, method: str, *args: Any, timeout_s: float | None = None
    ) -> EntityResponse[Any]:
        """A process sends a message; its first argument is its token."""
        message = getattr(reference, method)
        address = message.address
        token = self._sent(process, address.type, address.id, method, message.kind.idempotent)
        if timeout_s is not None:
            message = message.options(timeout_s=timeout_s)
        return self._heard(process, token, message.remote(token, *args))

    def broadcast(
        self, process: str, send: Broadcaster, kind: type[Entity], method: str, *args: Any
    ) -> EntityResponse[Any]:
        """A process sends a broadcast; its first argument is its token."""
        definition = define(kind)
        declared = definition.messages[method]
        token = self._sent(process, definition.name, EVERYBODY, method, declared.idempotent)
        return self._heard(process, token, send(kind, method, token, *args))

    def _sent(self, process: str, kind: str, entity_id: str, method: str, idempotent: bool) -> str:
        sequence = next(self._sequences.setdefault(process, itertools.count()))
        token = f"{process}:{sequence}"
        self.note(
            "sent",
            process,
            sender=process,
            seq=sequence,
            token=token,
            type=kind,
            id=entity_id,
            method=method,
            idempotent=idempotent,
        )
        return token

    def _heard(self, process: str, token: str, reply: EntityResponse[Any]) -> EntityResponse[Any]:
        self.open[token] = reply
        reply.add_done_callback(lambda settled: self._settled(process, token, settled))
        return reply

    def _settled(self, process: str, token: str, reply: EntityResponse[Any]) -> None:
        self.open.pop(token, None)
        error = reply.exception()
        if error is None:
            self.note("fate", process, token=token, ok=True, **told_by(reply.result()))
        else:
            assert isinstance(error, ClusterError)
            self.note(
                "fate", process, token=token, ok=False, reason=error.reason, may_have_run=error.may_have_run
            )


@contextmanager
def recording_ends(record: Record) -> Iterator[None]:
    """Until the context ends, the end of each process that an entity has for itself is written down."""
    end = OwnProcess.end

    def ended(self: OwnProcess) -> None:
        if not self.ended.done():
            record.ended(self.name, orderly=self.client._closed)
        end(self)

    OwnProcess.end = ended  # type: ignore[method-assign]  # there is no hook for this: only tests want it
    try:
        yield
    finally:
        OwnProcess.end = end  # type: ignore[method-assign]  # as above


def process_of(entity: Entity) -> str:
    """The name of the process that an entity is in: its runner's id, or that with a slash and a number."""
    neighbours: Any = entity._activation.hosted.host.neighbours
    name: str = neighbours.client().incarnation
    return name


_records: list[Record] = []


@contextmanager
def being_current(record: Record) -> Iterator[None]:
    """Entities write into this record, until the context ends."""
    _records.append(record)
    try:
        yield
    finally:
        _records.remove(record)


def current_record() -> Record:
    """Where entities write to."""
    return _records[-1]
