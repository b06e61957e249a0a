"""Processes of their own, played in memory: the same two ends as on Ray, with nothing but the loop between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, TypeVar

from cluster_app.alarm import LoopAlarm
from cluster_app.annex_calls import Call, Lent, News, Reply, Tenancy
from cluster_app.annexed_entity import AnnexedEntity
from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.directory import Directory
from cluster_app.envelope import Codec
from cluster_app.exchange import Transport
from cluster_app.lent_lease import LentLease, LentWay
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.owned_annex import OwnedAnnexes
from cluster_app.runner import Runner
from cluster_app.stepped_loop import SteppedLoop
from entities.annex import AnnexLost, Left
from entities.declaration import EntityDefinition
from observe.recorder import Recorder
from observe.traces import Traces

__all__ = ["MemoryAnnexes"]

T = TypeVar("T")


class MemoryAnnexes(OwnedAnnexes):
    """The processes of one runner's entities.

    :param awake: set while the runner goes on.
    :param report: told a process's name and counts, and whether they are its last.
    """

    def __init__(
        self,
        runner: Runner,
        config: ClusterConfig,
        loop: SteppedLoop,
        transport: Transport,
        directory: Directory,
        neighbours: Neighbourhood,
        awake: asyncio.Event,
        report: Callable[[str, Recorder, bool], None],
        traces: Traces,
    ) -> None:
        self.traces = traces
        self.config = config
        self.loop = loop
        self.transport = transport
        self.directory = directory
        self.awake = awake
        self.report = report
        self.processes: dict[str, _Process] = {}  # by address
        self.over = False
        super().__init__(runner, loop.time, Codec(), neighbours, partial(_MemoryLink, self))

    def flush(self) -> None:
        """Report what the living processes have counted so far."""
        for process in self.processes.values():
            process.flush()
            self.report(process.name, process.recorder, False)

    def kill(self, address: str) -> bool:
        """End a process at once, as `kill -9` does; False if there is none for that address."""
        process = self.processes.pop(address, None)
        if process is not None:
            process.end()
        return process is not None

    def kill_all(self) -> None:
        """Their owner dies, and they with it."""
        self.over = True
        for address in list(self.processes):
            self.kill(address)


class _Process:
    """One such process."""

    def __init__(self, annexes: MemoryAnnexes, tenancy: Tenancy, definition: EntityDefinition) -> None:
        loop, config = annexes.loop, annexes.config
        self.name = tenancy.process
        self.traces = annexes.traces.share()
        self.recorder = Recorder(enabled=config.metrics)
        self.ended: asyncio.Future[None] = loop.create_future()
        neighbourhood = Neighbourhood()
        lease = LentLease(loop, loop.time, lambda: self.client.go_on())
        self.entity = AnnexedEntity(
            tenancy,
            definition,
            lease,
            loop,
            loop.time,
            Codec(),
            neighbourhood,
            config.lease_s / 3,
            self.traces,
        )
        self.client = Client(
            tenancy.process,
            config,
            annexes.transport,
            annexes.directory,
            self.recorder,
            Codec(),
            loop.time,
            LoopAlarm(loop, loop.time, self._tick).at,
            LentWay(lease, loop),
            self.traces,
            Random(tenancy.process).random,
        )
        neighbourhood.join(self.client)
        lease.mark()

    def _tick(self) -> None:
        if not self.ended.done():
            self.client.tick()

    def flush(self) -> None:
        self.entity.flush()
        self.client.flush()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self.traces.cut()
            self.entity.stop()
            self.recorder.close()


class _MemoryLink:
    """The way to one process."""

    def __init__(self, annexes: MemoryAnnexes, tenancy: Tenancy, definition: EntityDefinition) -> None:
        self._annexes = annexes
        self._tenancy = tenancy
        self._definition = definition
        self._address = f"{tenancy.entity_type}/{tenancy.entity_id}"
        self._process: _Process | None = None

    async def begin(self) -> None:
        await self._annexes.awake.wait()
        if self._annexes.over:
            await self._annexes.loop.create_future()  # its owner was killed, and starts nothing
        self._process = _Process(self._annexes, self._tenancy, self._definition)
        self._annexes.processes[self._address] = self._process

    async def hindrance(self) -> str | None:
        return None

    async def activate(self, lent: Lent, trace: str | None) -> Reply:
        return await self._ask(lambda entity: entity.activate(lent, trace))

    async def call(self, call: Call) -> Reply:
        return await self._ask(lambda entity: entity.call(call))

    def cancel(self, number: int) -> None:
        if self._process is not None and not self._process.ended.done():
            self._process.entity.cancel(number)

    async def news(self, lent: Lent) -> News:
        return await self._ask(lambda entity: entity.news(lent))

    async def states(self) -> dict[str, Any] | None:
        async def read(entity: AnnexedEntity) -> dict[str, Any] | None:
            return entity.states()

        return await self._ask(read)

    async def leave(self, reason: str) -> Left:
        left = await self._ask(lambda entity: entity.leave(reason))
        process = self._process
        if not left.stay_s and process is not None:
            process.client.close()
            process.flush()
            self._annexes.report(process.name, process.recorder, True)
        return left

    async def bury(self, grace_s: float) -> None:
        if self._process is not None and self._annexes.processes.get(self._address) is self._process:
            self._annexes.kill(self._address)

    async def _ask(self, ask: Callable[[AnnexedEntity], Coroutine[Any, Any, T]]) -> T:
        process = self._process
        await self._annexes.awake.wait()
        if process is None or process.ended.done():
            raise AnnexLost(sent=False)
        asked = asyncio.ensure_future(ask(process.entity))
        either: list[asyncio.Future[Any]] = [asked, process.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        await self._annexes.awake.wait()  # its owner was stopped while the answer was on its way
        if process.ended.done():
            asked.cancel()
            raise AnnexLost
        return asked.result()
