"""One runner of a memory cluster: the same parts as a real one, in one process with all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, TypeVar

from cluster_app.alarm import LoopAlarm
from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.coordinator import RunnerEnded
from cluster_app.directory import Directory
from cluster_app.entity_states import living_ids, read_states
from cluster_app.envelope import Codec
from cluster_app.exchange import Connection, Request, RunnerGone, Told, Transport
from cluster_app.leadership import NotLeading
from cluster_app.local import LocalLane
from cluster_app.memory_annex import MemoryAnnexes
from cluster_app.memory_coordinator import MemoryCoordinator
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.runner import Runner
from cluster_app.standing import Standing
from cluster_app.stepped_loop import SteppedLoop
from entities.declaration import EntityDefinition
from observe.recorder import Recorder
from observe.traces import Traces

__all__ = ["MemoryRunner"]

T = TypeVar("T")


class MemoryRunner:
    """A runner, its client and its renewals; made on the loop's thread."""

    def __init__(
        self,
        runner_id: str,
        node_id: str,
        config: ClusterConfig,
        loop: SteppedLoop,
        service: list[MemoryCoordinator],
        directory: Directory,
        transport: Transport,
        definitions: dict[str, EntityDefinition],
        report: Callable[[str, Recorder, bool], None],
        ended: Callable[[MemoryRunner], None],
        traces: Traces,
        standing: Standing,
    ) -> None:
        self.recorder = Recorder(enabled=config.metrics)
        self.alive = True
        self.node_id = node_id
        self._lease_s = config.lease_s
        self._traces = traces = traces.share()
        self._loop = loop
        self._service = service
        self._awake = asyncio.Event()
        self._awake.set()
        self._untold: dict[int, Told] = {}
        self._unheard: list[Callable[[], object]] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self._requests = 0
        codec = Codec()
        local = LocalLane(loop, loop.thread.ident or 0, codec)
        self.neighbourhood = neighbourhood = Neighbourhood()

        async def definition(name: str) -> EntityDefinition | None:
            return definitions.get(name)

        self.runner = Runner(
            runner_id,
            node_id,
            0,
            config,
            loop,
            loop.time,
            self.recorder,
            codec,
            neighbourhood,
            definition,
            traces,
            standing,
        )
        self.client = Client(
            runner_id,
            config,
            _OwnTransport(self, transport),
            directory,
            self.recorder,
            codec,
            loop.time,
            LoopAlarm(loop, loop.time, self._tick).at,
            local,
            traces,
            Random(runner_id).random,
        )
        local.join(self.client, self.runner)
        neighbourhood.join(self.client)
        self.annexes = MemoryAnnexes(
            self.runner, config, loop, transport, directory, neighbourhood, self._awake, report, traces
        )
        self.runner.host.supervise(self.annexes)
        self._ended = ended
        self.runner.on_news(lambda: self._keep(self._renew_once()))
        self.runner.on_departing(lambda: self._keep(self._depart()))
        self._tasks = [loop.create_task(self._renew()), loop.create_task(self._sweep())]

    def _tick(self) -> None:
        if self.alive and self._awake.is_set():  # going on, it looks at all that is due
            self.client.tick()

    def hear(self, told: Callable[[], object]) -> None:
        """Something comes to this process: heard at once, or when it goes on, or never."""
        if not self.alive:
            return
        if self._awake.is_set():
            told()
        else:
            self._unheard.append(told)

    async def _renew(self) -> None:
        while self.alive:
            # A coordinator that stands still is not waited for.
            if not await self._renew_once(patience_s=self._lease_s):
                await asyncio.sleep(0.05)

    async def _renew_once(self, patience_s: float | None = None) -> bool:
        await self._awake.wait()
        sent_at = self._loop.time()
        try:
            async with asyncio.timeout(patience_s):
                lease = await self._service[0].renew(self.runner.renewal())
        except (NotLeading, RunnerEnded, ConnectionError, TimeoutError):
            return False  # the next renewal tells it again
        await self._awake.wait()  # stopped while the answer was on its way
        if self.alive:
            self.runner.apply(lease, sent_at)
            self.client.term = self.runner.tenure.term
            self.client.go_on()
        return True

    async def _depart(self) -> None:
        """End in order: when every sender has all its answers, and nothing of its own is under way."""
        while self.alive and not (self.runner.parted and not self.client.outstanding.by_entity()):
            await asyncio.sleep(0.05)
        if self.alive:
            await self.runner.close()
            self._ended(self)

    def cut_short(self, within_s: float = 1.0) -> None:
        """As a runner of a node that is about to be taken away: what has not ended by then never will."""
        self.runner.cut_short()
        self._keep(self._drop(within_s))

    async def _drop(self, within_s: float) -> None:
        await asyncio.sleep(within_s)
        if self.alive:
            self.runner.drop()
            self.client.close()
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

    def _keep(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

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
        unheard, self._unheard = self._unheard, []
        for told in unheard:
            told()
        self.client.go_on()

    def kill(self) -> None:
        """End at once; nothing more is answered."""
        self.alive = False
        self._traces.cut()
        self.runner.until = float("-inf")  # nothing leaves
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
        return living_ids(self.runner.host.live, entity_type)

    async def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """See `Runner.deactivate`; raises ConnectionError while its lease does not run."""
        self._check_answers()
        lived = self.runner.deactivate(entity_type, entity_id)
        await self._loop.quiet()
        return lived

    async def states(self, entity_type: str) -> list[bytes]:
        """The states of its entities of a type; raises ConnectionError while its lease does not run."""
        await self._loop.quiet()
        table, chunks = self.runner.host.live, []
        ids = living_ids(table, entity_type)
        while ids:
            self._check_answers()
            looked_at, data = await read_states(table, entity_type, ids)
            chunks.append(data)
            del ids[:looked_at]
        return chunks

    def flush(self) -> None:
        """Move its counts into its recorder."""
        self.runner.flush()
        self.client.flush()
        self.annexes.flush()


class _OwnTransport:
    """How a runner's own messages leave it, and their answers come back: not while it stands still."""

    eager = True

    def __init__(self, process: MemoryRunner, transport: Transport) -> None:
        self._process = process
        self._transport = transport

    def connect(self, runner_id: str) -> Connection:
        return _OwnWay(self._process, self._transport.connect(runner_id))


class _OwnWay:
    """Its way to one runner."""

    def __init__(self, process: MemoryRunner, connection: Connection) -> None:
        self._process = process
        self._connection = connection

    def exchange(self, request: Request, told: Told) -> None:
        self._connection.exchange(request, lambda answer: self._process.hear(partial(told, answer)))
