"""A whole cluster in memory, for tests: the same API and the same protocol, no Ray, and time that you step.

Knows neither Ray nor OpenTelemetry. Handlers, timers and timeouts follow the stepped clock: ``asyncio.sleep(10)`` in
a handler ends when the test has called ``cluster.clock.advance(10)``.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cluster_app.client import Client
from cluster_app.cluster import Cluster, InsideCluster
from cluster_app.code import ShippedType, TypeConflict, prompt
from cluster_app.config import ClusterConfig
from cluster_app.coordinator import Routes
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.drain import DrainResult, DrainTimeout, chosen
from cluster_app.entity_states import states_from
from cluster_app.envelope import Codec
from cluster_app.exchange import Connection, Request, RunnerGone, Told
from cluster_app.kv import MemoryKeyValue
from cluster_app.leadership import NotLeading
from cluster_app.memory_runner import MemoryRunner
from cluster_app.reference import connections
from cluster_app.status import ClusterStatus, CoordinatorStatus, RunnerStatus, hottest
from cluster_app.stepped_loop import SteppedClock, SteppedLoop
from cluster_app.version import __version__
from entities.declaration import EntityDefinition
from entities.log_address import carry_addresses
from entities.stall_watch import StallWatch
from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.recorder import Recorder
from observe.snapshot import MetricsSnapshot
from observe.totals import Totals

__all__ = ["MemoryCluster"]

_NODE = "memory"
_START_S = 1.0  # what a process takes to start


class MemoryCluster(Cluster):
    """A cluster of `runners` runners in this process.

    :ivar clock: time stands still until `clock.advance(seconds)`; only `drain` moves it as well, while it waits.
    """

    def __init__(self, runners: int = 2, config: ClusterConfig | None = None) -> None:
        if runners < 1:
            raise ValueError(f"MemoryCluster(runners={runners}): at least 1")
        config = (config or ClusterConfig()).model_copy(update={"runners_per_node": runners})
        self._loop = SteppedLoop()
        self.clock = SteppedClock(self._loop)
        self._memory = _Memory(config, self._loop)
        self._loop.call(self._memory.start(runners))
        watch = StallWatch(self._loop, self._loop.thread.ident or 0)
        watch.start()
        self._memory.closing += [watch.end, carry_addresses()]
        super().__init__(self._memory.client, self._memory, config)

    def kill(self, runner_id: str) -> None:
        """End a runner at once, as `kill -9` does; another one is started in its place."""
        self._loop.call(self._memory.kill(runner_id))

    def pause(self, runner_id: str) -> None:
        """Let a runner stand still, as a stopped process does."""
        self._loop.call(self._memory.each(runner_id, MemoryRunner.pause))

    def resume(self, runner_id: str) -> None:
        """Let a paused runner go on."""
        self._loop.call(self._memory.each(runner_id, MemoryRunner.resume))

    def kill_entity(self, target: Any) -> None:
        """End the process of an entity with ``hosting="actor"`` at once, as `kill -9` does.

        :param target: a reference to it, its address, or its address as text.
        :raises KeyError: no such entity lives in a process of its own.
        """
        self._loop.call(self._memory.kill_entity(str(target)))

    def kill_coordinator(self) -> None:
        """End the coordinator at once; another one claims the next term."""
        self._loop.call(self._memory.kill_coordinator())


class _Memory:
    """The parts of a memory cluster, and the backend of its connection."""

    eager = True  # and a stepped clock stands still while a message waits

    def __init__(self, config: ClusterConfig, loop: SteppedLoop) -> None:
        self._config = config
        self._loop = loop
        self._kv = MemoryKeyValue()
        self._definitions: dict[str, EntityDefinition] = {}
        self._runners: dict[str, MemoryRunner] = {}
        self._service: list[CoordinatorService] = []
        self._numbers = itertools.count(1)
        self._reports = itertools.count(1)
        self._agent = NodeAgent(Journal(":memory:"), loop.time)
        self.closing: list[Callable[[], None]] = []  # what else ends with the cluster
        self._coordinator_counts = Recorder(enabled=config.metrics)
        self._counts = Recorder(enabled=config.metrics)
        self.client = Client(
            f"driver-{uuid.uuid4().hex[:8]}",
            config,
            self,
            self,
            self._counts,
            Codec(),
            loop.time,
            self._alarm,
        )

    def _alarm(self, when: float) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_at, when, self.client.tick)

    async def start(self, runners: int) -> None:
        self._lead()
        for _ in range(runners):
            self._add_runner()
        await self._loop.quiet()

    def _lead(self) -> None:
        incarnation = f"coordinator-{next(self._numbers)}"
        service = CoordinatorService(
            "memory",
            incarnation,
            self._kv,
            self._config,
            self._loop,
            self._loop.time,
            self._coordinator_counts,
        )
        self._service[:] = [service]

    def _add_runner(self) -> None:
        runner_id = f"memory-{next(self._numbers)}"
        self._runners[runner_id] = memory = MemoryRunner(
            runner_id,
            self._config,
            self._loop,
            self._service,
            self,
            self,
            self._definitions,
            self._report,
            self._left,
        )
        memory.neighbourhood.cluster = inside = InsideCluster(memory.client, self, self._config)
        connections.remove(inside)  # it is what its own entities get from connect(), and nobody else

    def _left(self, memory: MemoryRunner) -> None:
        """A drained runner has ended in order; a process that takes its place needs a moment to start."""
        runner_id = memory.runner.runner_id
        memory.flush()
        self._report(runner_id, memory.recorder, final=True)
        memory.kill()
        del self._runners[runner_id]
        self._service[0].proven_dead(runner_id)
        self._loop.call_later(_START_S, self._staff)

    def _staff(self) -> None:
        if self._runners and len(self._runners) < self._config.runners_per_node:
            self._add_runner()

    # -- faults

    def _find(self, runner_id: str) -> MemoryRunner:
        found = self._runners.get(runner_id)
        if found is None:
            raise KeyError(f"no runner {runner_id!r}; there are {sorted(self._runners)}")
        return found

    async def each(self, runner_id: str, fault: Callable[[MemoryRunner], None]) -> None:
        fault(self._find(runner_id))
        await self._loop.quiet()

    async def kill(self, runner_id: str) -> None:
        self._find(runner_id).kill()
        del self._runners[runner_id]
        self._agent.ended(runner_id)
        self._service[0].proven_dead(runner_id)
        self._add_runner()
        await self._loop.quiet()

    async def kill_entity(self, address: str) -> None:
        if not any(memory.annexes.kill(address) for memory in self._runners.values()):
            raise KeyError(f"no entity {address} lives in a process of its own")
        await self._loop.quiet()

    async def kill_coordinator(self) -> None:
        self._service[0].close()
        self._lead()
        await self._loop.quiet()

    # -- drains

    def drain(self, target: str, timeout_s: float) -> DrainResult:
        return self._loop.call(self._drain(target, timeout_s))

    async def _drain(self, target: str, timeout_s: float) -> DrainResult:
        service, started = self._service[0], self._loop.time()
        choice = chosen(target, [_NODE], service.coordinator.runners(), service.drained)
        service.drain_runner(choice.target)
        if all(view.draining for view in service.coordinator.runners()):
            self._add_runner()  # nobody else could take its shards
        await self._loop.quiet()
        while held := service.held(choice.runners):
            if self._loop.time() >= started + timeout_s:
                raise DrainTimeout(
                    choice.target,
                    timeout_s,
                    held,
                    [run for name in held for run in self._find(name).runner.running()],
                )
            await self._loop.advance(0.01)
        seconds = self._loop.time() - started
        return DrainResult(choice.target, tuple(choice.runners), sum(choice.runners.values()), seconds)

    def undrain(self, node_id: str) -> None:
        raise ValueError(
            f"no drained node {node_id!r}: a memory cluster has one node, which cannot be drained"
        )

    # -- ports of the clients

    def connect(self, runner_id: str) -> Connection:
        return self._runners.get(runner_id) or _Nobody(runner_id, self._loop)

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        async def ask() -> None:
            told(await self._service[0].routes(known_version))

        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(ask()))

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        def ask() -> None:
            module, name = definition.cls.__module__, definition.cls.__qualname__
            # One process: the class itself is handed on, and nothing of it is pickled.
            shipped = ShippedType(
                definition.name,
                definition.options.group,
                definition.digest,
                module,
                name,
                prompt(module),
                {},
                b"in memory",
            )
            try:
                self._service[0].register(shipped, replace)
            except (TypeConflict, ConnectionError) as refusal:
                told(refusal)
                return
            self._definitions[definition.name] = definition
            for runner in self._runners.values():
                runner.runner.host.register(definition)
            told(None)

        self._loop.call_soon_threadsafe(ask)

    def keep(self, name: str, told: Callable[[BaseException | None], None]) -> None:
        def ask() -> None:
            try:
                self._service[0].keep(name)
            except (LookupError, ConnectionError, NotLeading) as refusal:
                told(ConnectionError(str(refusal)) if isinstance(refusal, NotLeading) else refusal)
                return
            told(None)

        self._loop.call_soon_threadsafe(ask)

    # -- backend of the connection

    def status(self) -> ClusterStatus:
        return self._loop.call(self._status())

    async def _status(self) -> ClusterStatus:
        await self._loop.quiet()
        service = self._service[0]
        views = {view.runner_id: view for view in service.coordinator.runners()}
        entities: dict[str, int] = {}
        runners = []
        for runner_id, memory in self._runners.items():
            for name, live in memory.runner.host.live().items():
                entities[name] = entities.get(name, 0) + live
            view = views.get(runner_id)
            runners.append(
                RunnerStatus(
                    runner_id,
                    _NODE,
                    os.getpid(),
                    view is not None and view.healthy,
                    view.shards if view is not None else 0,
                    sum(memory.runner.host.live().values()),
                    "memory",
                    memory.runner.lanes,
                )
            )
        shards = sum(runner.shards for runner in runners)
        singletons = service.coordinator.singletons
        hot = hottest(
            found
            for memory in self._runners.values()
            for found in memory.runner.admission.hot.hottest(self._loop.time())
        )
        return ClusterStatus(
            runners,
            entities,
            shards,
            singletons,
            CoordinatorStatus(os.getpid(), service.term),
            __version__,
            hot,
        )

    def states(self, type_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for memory in list(self._runners.values()):
            for data in self._loop.call(memory.states(type_name)):
                yield from states_from(data)

    def live(self, type_name: str) -> Iterator[str]:
        for memory in list(self._runners.values()):
            yield from self._loop.call(memory.live(type_name))

    def type_names(self) -> list[str]:
        return self._service[0].type_names()

    def deactivate(self, type_name: str, entity_id: str) -> bool:
        return self._loop.call(self._deactivate(type_name, entity_id))

    async def _deactivate(self, type_name: str, entity_id: str) -> bool:
        await self._loop.quiet()
        owner = self._runners.get(self._service[0].owner(type_name, entity_id) or "")
        lived = None if owner is None else await owner.deactivate(type_name, entity_id)
        if lived is None:
            raise ConnectionError(f"no runner serves the shard of {type_name}/{entity_id} now")
        return lived

    def metrics(self) -> MetricsSnapshot:
        return self._loop.call(self._metrics())

    async def _metrics(self) -> MetricsSnapshot:
        await self._loop.quiet()
        self.client.flush()
        self._report("driver", self._counts)
        self._report("coordinator", self._coordinator_counts)
        for runner_id, memory in self._runners.items():
            memory.flush()
            self._report(runner_id, memory.recorder)
        return self._agent.snapshot()

    def _report(self, process: str, recorder: Recorder, final: bool = False) -> None:
        gauges = recorder.gauges() if recorder.enabled and not final else Totals()
        totals = recorder.totals()
        self._agent.merge(Report(process, next(self._reports), self._loop.time(), totals, gauges, final))

    def shutdown(self) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        self._loop.call(self._stop())
        for end in self.closing:
            end()
        self._loop.end()

    async def _stop(self) -> None:
        for memory in self._runners.values():
            await memory.runner.close()
            memory.kill()
        self._service[0].close()
        self._counts.close()
        self._coordinator_counts.close()
        await self._loop.quiet()


class _Nobody:
    """The way to a runner that has ended."""

    def __init__(self, runner_id: str, loop: SteppedLoop) -> None:
        self._runner_id = runner_id
        self._loop = loop

    def exchange(self, request: Request, told: Told) -> None:
        self._loop.call_soon_threadsafe(told, RunnerGone(f"runner {self._runner_id} has ended"))
