"""One runner of a memory cluster: the same parts as a real one, in one process with all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.coordinator import RunnerEnded
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.directory import Directory
from cluster_app.entity_states import living_ids, read_states
from cluster_app.envelope import Codec
from cluster_app.exchange import Request, RunnerGone, Told, Transport
from cluster_app.leadership import NotLeading
from cluster_app.local import LocalLane
from cluster_app.memory_annex import MemoryAnnexes
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.runner import Runner
from cluster_app.stepped_loop import SteppedLoop
from entities.declaration import EntityDefinition
from observe.recorder import Recorder

__all__ = ["MemoryRunner"]


class MemoryRunner:
    """A runner, its client and its renewals; made on the loop's thread."""

    def __init__(
        self,
        runner_id: str,
        config: ClusterConfig,
        loop: SteppedLoop,
        service: list[CoordinatorService],
        directory: Directory,
        transport: Transport,
        definitions: dict[str, EntityDefinition],
        report: Callable[[str, Recorder, bool], None],
        ended: Callable[[MemoryRunner], None],
    ) -> None:
        self.recorder = Recorder(enabled=config.metrics)
        self.alive = True
        self._loop = loop
        self._service = service
        self._awake = asyncio.Event()
        self._awake.set()
        self._untold: dict[int, Told] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._requests = 0
        codec = Codec()
        local = LocalLane(loop, loop.thread.ident or 0, codec)
        self.neighbourhood = neighbourhood = Neighbourhood()

        async def definition(name: str) -> EntityDefinition | None:
            return definitions.get(name)

        self.runner = Runner(
            runner_id, "memory", 0, config, loop, loop.time, self.recorder, codec, neighbourhood, definition
        )
        self.client = Client(
            runner_id,
            config,
            transport,
            directory,
            self.recorder,
            codec,
            loop.time,
            lambda when: loop.call_soon_threadsafe(loop.call_at, when, self._tick),  # type: ignore[arg-type]  # returns a handle
            local,
        )
        local.join(self.client, self.runner)
        neighbourhood.join(self.client)
        self.annexes = MemoryAnnexes(
            self.runner, config, loop, transport, directory, neighbourhood, self._awake, report
        )
        self.runner.host.supervise(self.annexes)
        self._ended = ended
        self.runner.on_news(lambda: self._keep(self._tell()))
        self.runner.on_departing(lambda: self._keep(self._depart()))
        self._tasks = [loop.create_task(self._renew()), loop.create_task(self._sweep())]

    def _tick(self) -> None:
        if self.alive:
            self.client.tick()

    async def _renew(self) -> None:
        while self.alive:
            try:
                await self._renew_once()
            except NotLeading:
                await asyncio.sleep(0.05)
            except RunnerEnded:
                return

    async def _renew_once(self) -> None:
        await self._awake.wait()
        sent_at = self._loop.time()
        lease = await self._service[0].renew(self.runner.renewal())
        await self._awake.wait()  # stopped while the answer was on its way
        if self.alive:
            self.runner.apply(lease, sent_at)
            self.client.term = self.runner.tenure.term
            self.client.go_on()

    async def _tell(self) -> None:
        with suppress(NotLeading, RunnerEnded):  # the next renewal tells it again
            await self._renew_once()

    async def _depart(self) -> None:
        """End in order: when every sender has all its answers, and nothing of its own is under way."""
        while self.alive and not (self.runner.parted and not self.client.load_by_entity()):
            await asyncio.sleep(0.05)
        if self.alive:
            await self.runner.close()
            self._ended(self)

    async def _sweep(self) -> None:
        while self.alive:
            await asyncio.sleep(1.0)
            if self._awake.is_set():
                self.runner.sweep()

    # -- as its senders see it: a `Connection`

    def exchange(self, request: Request, told: Told) -> None:
        """Carry a request in, and its answer out; from any thread."""
        self._loop.call_soon_threadsafe(self._start, request, told)

    def _start(self, request: Request, told: Told) -> None:
        if not self.alive:
            told(RunnerGone(f"runner {self.runner.runner_id} was killed"))
            return
        self._requests += 1
        self._untold[self._requests] = told
        self._keep(self._exchange(request, self._requests))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _exchange(self, request: Request, number: int) -> None:
        await self._awake.wait()
        answer = await self.runner.exchange(request)
        await self._awake.wait()
        told = self._untold.pop(number, None)
        if told is not None:
            told(answer)

    # -- faults

    def pause(self) -> None:
        """Stand still, as a stopped process does."""
        self._awake.clear()
        self.runner.paused = True
        self.runner.extend()

    def resume(self) -> None:
        """Go on."""
        self.runner.paused = False
        self.runner.extend()
        self._awake.set()
        self.client.go_on()

    def kill(self) -> None:
        """End at once; nothing more is answered."""
        self.alive = False
        self.runner.host.stop()
        self.annexes.kill_all()
        for task in [*self._tasks, *self._under_way]:
            if task is not asyncio.current_task():  # the one that ends it in order
                task.cancel()
        self.recorder.close()
        untold, self._untold = self._untold, {}
        for told in untold.values():
            self._loop.call_soon(partial(told, RunnerGone(f"runner {self.runner.runner_id} was killed")))

    def _check_answers(self) -> None:
        if self._loop.time() >= self.runner.until:
            raise ConnectionError(f"runner {self.runner.runner_id} did not answer")

    async def live(self, entity_type: str) -> list[str]:
        """The ids of its entities of a type; raises ConnectionError while its lease does not run."""
        await self._loop.quiet()
        self._check_answers()
        return living_ids(self.runner.host, entity_type)

    async def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """See `Runner.deactivate`; raises ConnectionError while its lease does not run."""
        self._check_answers()
        lived = self.runner.deactivate(entity_type, entity_id)
        await self._loop.quiet()
        return lived

    async def states(self, entity_type: str) -> list[bytes]:
        """The states of its entities of a type; raises ConnectionError while its lease does not run."""
        await self._loop.quiet()
        host, chunks = self.runner.host, []
        ids = living_ids(host, entity_type)
        while ids:
            self._check_answers()
            looked_at, data = await read_states(host, entity_type, ids)
            chunks.append(data)
            del ids[:looked_at]
        return chunks

    def flush(self) -> None:
        """Move its counts into its recorder."""
        self.runner.flush()
        self.client.flush()
        self.annexes.flush()
