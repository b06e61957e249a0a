"""The parts of a memory cluster, and what stands behind a connection to it.

Decides which parts there are and what each is given, and carries out what a user asks of the cluster, or a test does to
it. All of that has settled when it returns: nothing more would happen without the clock going on.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from cluster_app.alarm import LoopAlarm
from cluster_app.arriving import connections
from cluster_app.client import Client
from cluster_app.cluster import InsideCluster
from cluster_app.config import ClusterConfig
from cluster_app.drain import DrainResult, DrainTimeout, chosen
from cluster_app.entity_states import states_from
from cluster_app.envelope import Codec
from cluster_app.exchange import Connection, Request, RunnerGone, Told
from cluster_app.kv import MemoryKeyValue
from cluster_app.memory_agent import MemoryAgent
from cluster_app.memory_coordinator import MemoryCoordinator
from cluster_app.memory_coordinators import MemoryCoordinators
from cluster_app.memory_directory import MemoryDirectory
from cluster_app.memory_runner import MemoryRunner
from cluster_app.memory_staff import MemoryStaff
from cluster_app.memory_status import status_of
from cluster_app.standing import Standing
from cluster_app.status import ClusterStatus
from cluster_app.stepped_loop import SteppedLoop
from entities.declaration import EntityDefinition
from observe.recorder import Recorder
from observe.snapshot import MetricsSnapshot
from observe.traces import Traces

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """The backend of a memory cluster's connection, and the way to its runners.

    :param standings: what the nodes have that have not just anything.
    :ivar client: sends what does not come from an entity.
    :ivar closing: what else ends with the cluster.
    """

    eager = True  # and a stepped clock stands still while a message waits

    def __init__(self, config: ClusterConfig, loop: SteppedLoop, standings: Mapping[str, Standing]) -> None:
        self.closing: list[Callable[[], None]] = []
        # The stepped clock is all the time there is: spans are told in it too.
        self.traces = Traces(lambda at_s: round(at_s * 1e9), loop.time)
        self._config = config
        self._loop = loop
        self._kv = MemoryKeyValue()
        self._definitions: dict[str, EntityDefinition] = {}
        self._agent = MemoryAgent(loop.time)
        self._coordinator_counts = Recorder(enabled=config.metrics)
        self._counts = Recorder(enabled=config.metrics)
        numbers = itertools.count(1)
        self._coordinators = MemoryCoordinators(loop, numbers, self._coordinator)
        self._service, self._stopped = self._coordinators.asked, self._coordinators.stopped
        anything = Standing(groups=frozenset(config.groups))
        self._staff = MemoryStaff(
            loop, numbers, self._coordinators, standings, anything, self._runner, self._parted
        )
        self._runners, self._wanted = self._staff.runners, self._staff.wanted
        self._directory = MemoryDirectory(loop, self._coordinators, self._registered)
        self.client = Client(
            f"driver-{uuid.uuid4().hex[:8]}",
            config,
            self,
            self._directory,
            self._counts,
            Codec(),
            loop.time,
            LoopAlarm(loop, loop.time, lambda: self.client.tick()).at,
            traces=self.traces,
            chance=Random(0).random,  # a test that is run again sees the same
        )

    async def start(self, runners: int, nodes: int) -> None:
        """Start a coordinator, and so many runners on each of so many nodes."""
        self._coordinators.lead()
        for number in range(1, nodes + 1):
            self._wanted[f"node-{number}"] = runners
        for node_id in list(self._wanted) * runners:
            self._staff.add(node_id)
        await self._loop.quiet()

    def _coordinator(self, incarnation: str) -> MemoryCoordinator:
        return MemoryCoordinator(
            incarnation,
            self._kv,
            self._config,
            self._loop,
            self._loop.time,
            self._coordinator_counts,
            self.traces,
        )

    def _runner(self, runner_id: str, node_id: str, standing: Standing) -> MemoryRunner:
        memory = MemoryRunner(
            runner_id,
            node_id,
            self._config,
            self._loop,
            self._service,
            self._directory,
            self,
            self._definitions,
            self._agent.report,
            self._staff.left,
            self.traces,
            standing,
        )
        memory.neighbourhood.cluster = inside = InsideCluster(memory.client, self, self._config)
        connections.remove(inside)  # it is what its own entities get from connect(), and nobody else
        return memory

    def _registered(self, definition: EntityDefinition) -> None:
        self._definitions[definition.name] = definition
        for memory in self._runners.values():
            memory.runner.host.register(definition)

    def connect(self, runner_id: str) -> Connection:
        """See `Transport`."""
        return self._runners.get(runner_id) or _Nobody(runner_id, self._loop)

    # -- faults

    async def each(self, runner_id: str, fault: Callable[[MemoryRunner], None]) -> None:
        """Do something to a runner; raises KeyError."""
        fault(self._staff.find(runner_id))
        await self._loop.quiet()

    async def join(self, node_id: str | None) -> str:
        """See `MemoryStaff.join`."""
        runner_id = self._staff.join(node_id)
        await self._loop.quiet()
        return runner_id

    async def kill(self, runner_id: str, proven: bool = True) -> None:
        """See `MemoryStaff.kill`."""
        self._staff.kill(runner_id, proven=proven)
        self._agent.ended(runner_id)
        await self._loop.quiet()

    async def kill_entity(self, address: str) -> None:
        """End the process of an entity that has one; raises KeyError."""
        if not any(memory.annexes.kill(address) for memory in self._runners.values()):
            raise KeyError(f"no entity {address} lives in a process of its own")
        await self._loop.quiet()

    async def kill_coordinator(self) -> None:
        """See `MemoryCoordinators.kill`."""
        self._coordinators.kill()
        await self._loop.quiet()

    def stop_coordinator(self) -> None:
        """The coordinator stands still, and nobody has noticed yet."""
        self._service[0].pause()

    def succeed(self) -> None:
        """See `MemoryCoordinators.succeed`."""
        self._coordinators.succeed()

    def wake_coordinators(self) -> None:
        """See `MemoryCoordinators.wake`."""
        self._coordinators.wake()

    # -- drains

    def drain(self, target: str, timeout_s: float) -> DrainResult:
        """See `Backend`; the clock goes on meanwhile."""
        return self._loop.call(self._drain(target, timeout_s))

    async def _drain(self, target: str, timeout_s: float) -> DrainResult:
        service, started = self._service[0], self._loop.time()
        choice = chosen(target, self._wanted, service.coordinator.runners(), service.drained)
        if choice.node_id is not None:
            service.drain(choice.node_id)
        else:
            service.drain_runner(choice.target)
            if all(view.draining for view in service.coordinator.runners()):
                # Nobody else could take its shards.
                self._staff.add(self._staff.find(choice.target).node_id)
        await self._loop.quiet()
        while held := service.held(choice.runners):
            if self._loop.time() >= started + timeout_s:
                raise DrainTimeout(
                    choice.target,
                    timeout_s,
                    held,
                    [run for name in held for run in self._staff.find(name).runner.running()],
                )
            await self._loop.advance(0.01)
        seconds = self._loop.time() - started
        return DrainResult(choice.target, tuple(choice.runners), sum(choice.runners.values()), seconds)

    def undrain(self, node_id: str) -> None:
        """See `Backend`."""
        self._loop.call(self._undrain(node_id))

    async def _undrain(self, node_id: str) -> None:
        drained = self._service[0].drained
        if node_id not in drained:
            raise ValueError(
                f"no drained node {node_id!r}; there are: {', '.join(sorted(drained)) or 'none'}"
            )
        self._service[0].drain(node_id, False)
        self._staff.fill(node_id)
        await self._loop.quiet()

    # -- what is asked

    def status(self) -> ClusterStatus:
        """See `Backend`."""
        return self._loop.call(self._status())

    async def _status(self) -> ClusterStatus:
        await self._loop.quiet()
        return status_of(self._service[0], self._runners, self._loop.time())

    def states(self, type_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """See `Backend`."""
        for memory in list(self._runners.values()):
            for data in self._loop.call(memory.states(type_name)):
                yield from states_from(data)

    def live(self, type_name: str) -> Iterator[str]:
        """See `Backend`."""
        for memory in list(self._runners.values()):
            yield from self._loop.call(memory.live(type_name))

    def type_names(self) -> list[str]:
        """See `Backend`."""
        return self._service[0].type_names()

    def deactivate(self, type_name: str, entity_id: str) -> bool:
        """See `Backend`."""
        return self._loop.call(self._deactivate(type_name, entity_id))

    async def _deactivate(self, type_name: str, entity_id: str) -> bool:
        await self._loop.quiet()
        owner = self._runners.get(self._service[0].owner(type_name, entity_id) or "")
        lived = None if owner is None else await owner.deactivate(type_name, entity_id)
        if lived is None:
            raise ConnectionError(f"no runner serves the shard of {type_name}/{entity_id} now")
        return lived

    # -- counts

    def metrics(self) -> MetricsSnapshot:
        """See `Backend`."""
        return self._loop.call(self._metrics())

    async def _metrics(self) -> MetricsSnapshot:
        await self._loop.quiet()
        self.client.flush()
        self._agent.report("driver", self._counts)
        self._agent.report("coordinator", self._coordinator_counts)
        for runner_id, memory in self._runners.items():
            memory.flush()
            self._agent.report(runner_id, memory.recorder)
        return self._agent.snapshot()

    def _parted(self, memory: MemoryRunner) -> None:
        memory.flush()
        self._agent.report(memory.runner.runner_id, memory.recorder, final=True)

    # -- the end

    def shutdown(self) -> None:
        """See `Backend`: with one process for all, the same as `close`."""
        self.close()

    def close(self) -> None:
        """See `Backend`."""
        self.client.close()
        self._loop.call(self._stop())
        for end in self.closing:
            end()
        self._loop.end()

    async def _stop(self) -> None:
        await self._staff.close()
        self._coordinators.close()
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
