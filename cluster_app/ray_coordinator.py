"""The coordinator as a Ray actor: detached, on the head node, restarted by Ray; each restart claims a new term.

Decides how many agents and runners there are. Who owns what is `coordinator`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import uuid
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_app.code import ShippedType
from cluster_app.config import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.grants import Lease, Renewal
from cluster_app.ray_agent import AgentActor
from cluster_app.ray_calls import actor_names, agent_name, boottime, find_actor
from cluster_app.ray_kv import RayKeyValue
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_runner import RunnerActor
from cluster_app.unknown_type import UnknownType
from cluster_app.version import __version__
from observe.recorder import Recorder
from observe.totals import Totals

__all__ = ["CoordinatorActor"]


@ray.remote
class CoordinatorActor:
    """One coordinator incarnation."""

    def __init__(self, namespace: str, config: str) -> None:
        self._namespace = namespace
        self._config = ClusterConfig.model_validate_json(config)
        self._service: CoordinatorService | None = None
        self._beginning: asyncio.Task[CoordinatorService] | None = None
        self._dead: set[str] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"coordinator({self._namespace})"

    async def _begun(self) -> CoordinatorService:
        """Begin with the first call: a restarted actor has nobody to start it."""
        if self._service is not None:
            return self._service
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().create_task(self._begin())
        return await asyncio.shield(self._beginning)

    async def _begin(self) -> CoordinatorService:
        loop = asyncio.get_running_loop()
        recorder = Recorder(enabled=self._config.metrics)
        incarnation = f"coordinator-{uuid.uuid4().hex[:8]}"
        service = CoordinatorService(
            self._namespace, incarnation, RayKeyValue(), self._config, loop, boottime, recorder
        )
        self._staffing = asyncio.Event()
        self._reporter = Reporter(self._namespace, incarnation, recorder, lambda: None)
        self._staffer = loop.create_task(self._staff(service))
        self._service = service
        return service

    # -- agents and runners

    async def _staff(self, service: CoordinatorService) -> None:
        """See to it that each node has its agent and its runners."""
        while not self._stopping:
            with contextlib.suppress(RayError):
                await self._staff_once(service)
            try:
                await asyncio.wait_for(self._staffing.wait(), 1.0)
            except TimeoutError:
                continue
            self._staffing.clear()

    async def _staff_once(self, service: CoordinatorService) -> None:
        loop = asyncio.get_running_loop()
        nodes = [node["NodeID"] for node in await loop.run_in_executor(None, ray.nodes) if node["Alive"]]
        names = await loop.run_in_executor(None, actor_names, self._namespace)
        for node_id in nodes:
            if self._stopping:
                return
            placed = {
                "namespace": self._namespace,
                "lifetime": "detached",
                "num_cpus": 0,
                "max_task_retries": 0,
                "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
            }
            if agent_name(node_id) not in names:
                agents: Any = AgentActor
                agent = agents.options(
                    name=agent_name(node_id),
                    max_restarts=-1,
                    max_concurrency=2000,
                    get_if_exists=True,
                    **placed,
                ).remote(self._namespace, node_id, self._config.report_s)
                await agent.ready.remote()
            mine = [n for n in names if n.startswith(f"runner-{node_id[:8]}-") and n not in self._dead]
            for _ in range(self._config.runners_per_node - len(mine)):
                runner_id = f"runner-{node_id[:8]}-{uuid.uuid4().hex[:8]}"
                runners: Any = RunnerActor
                runner = runners.options(
                    name=runner_id, max_restarts=0, max_concurrency=10_000, enable_task_events=False, **placed
                ).remote(runner_id, self._namespace, self._config.model_dump_json())
                runner.start.remote()

    # -- calls of runners and agents

    async def renew(self, renewal: Renewal) -> Lease:
        """Answer a runner's renewal."""
        service = await self._begun()
        return await service.renew(renewal)

    async def proven_dead(self, runner_id: str) -> None:
        """A node agent has seen the runner's process end."""
        service = await self._begun()
        self._dead.add(runner_id)
        service.proven_dead(runner_id)
        self._staffing.set()

    async def shipped(self, name: str) -> bytes | None:
        """The code of a registered type."""
        service = await self._begun()
        shipped = service.shipped(name)
        return None if shipped is None else pickle.dumps(shipped)

    # -- calls of clients

    async def hello(self) -> dict[str, Any]:
        """What a new connection must know."""
        service = await self._begun()
        return {"version": __version__, "config": self._config.model_dump_json(), "term": service.term}

    async def routes(self, known_version: int) -> bytes | None:
        """Where the shards are; held while there is nothing new."""
        service = await self._begun()
        routes = await service.routes(known_version)
        return None if routes is None else pickle.dumps(tuple(routes))

    async def register(self, shipped: ShippedType, replace: bool) -> str:
        """Take in a type's code, and have every runner that lives take it in."""
        service = await self._begun()
        before = service.shipped(shipped.name)
        how = service.register(shipped, replace)
        after = service.shipped(shipped.name)
        if before is not None and after is not None and before.digest != after.digest:
            for view in service.coordinator.runners():
                runner = find_actor(view.runner_id, self._namespace) if view.healthy else None
                if runner is not None:
                    await runner.learn.remote(pickle.dumps(after))
        return how

    async def keep(self, name: str) -> None:
        """Keep exactly one entity of a registered type."""
        service = await self._begun()
        service.keep(name)

    async def type_names(self) -> list[str]:
        """The names of all registered types."""
        service = await self._begun()
        return service.type_names()

    async def owner(self, entity_type: str, entity_id: str) -> str | UnknownType | None:
        """The runner that an entity belongs to; the error is returned, for what is raised may also be a failed call."""
        service = await self._begun()
        try:
            return service.owner(entity_type, entity_id)
        except UnknownType as unknown:
            return unknown

    async def status(self) -> dict[str, Any]:
        """Who is where."""
        service = await self._begun()
        runners: list[dict[str, Any]] = []
        entities: dict[str, int] = {}
        hot: list[tuple[str, str, float, float]] = []
        for view in service.coordinator.runners():
            if view.runner_id in self._dead:
                continue
            handle = find_actor(view.runner_id, self._namespace)
            state: dict[str, Any] = {"entities": {}, "lanes": 0, "hot": []}
            if handle is not None:
                with contextlib.suppress(RayError, TimeoutError):
                    state = await asyncio.wait_for(handle.state.remote(), 2.0)
            hot.extend(state["hot"])
            for name, live in state["entities"].items():
                entities[name] = entities.get(name, 0) + live
            runners.append(
                {
                    "id": view.runner_id,
                    "node_id": view.node_id,
                    "pid": view.pid,
                    "healthy": view.healthy,
                    "shards": view.shards,
                    "entities": sum(state["entities"].values()),
                    "lane": "ray",
                    "lanes": state["lanes"],
                }
            )
        coordinator = {"pid": os.getpid(), "term": service.term}
        return {
            "runners": runners,
            "entities": entities,
            "singletons": service.coordinator.singletons,
            "hot": hot,
            "coordinator": coordinator,
            "version": __version__,
        }

    async def collect(self) -> list[Totals]:
        """The counts of all nodes, after every living process has reported."""
        await self._begun()
        sums: list[Totals] = []
        for name in await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace):
            if name.startswith("agent-"):
                sums.extend(await self._collect_from(name))
        return sums

    async def _collect_from(self, name: str) -> list[Totals]:
        for _ in range(100):
            agent = find_actor(name, self._namespace)
            if agent is None:
                break
            try:
                return list(await agent.collect.remote())
            except ActorUnavailableError:
                await asyncio.sleep(0.05)  # it restarts, and goes on from its journal
            except RayError:
                break
        return []  # the node is gone

    async def stop(self) -> None:
        """End the service: let entities go, end runners and agents, remove what is stored."""
        service = await self._begun()
        self._stopping = True
        self._staffing.set()
        names = await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace)
        runners = [
            a for n in names if n.startswith("runner-") and (a := find_actor(n, self._namespace)) is not None
        ]
        for runner in runners:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(runner.stop.remote(), 5.0)
            ray.kill(runner, no_restart=True)
        self._reporter._ended.set()
        for name in names:
            agent = find_actor(name, self._namespace) if name.startswith("agent-") else None
            if agent is not None:
                with contextlib.suppress(RayError, TimeoutError):
                    await asyncio.wait_for(agent.forget.remote(), 5.0)
                ray.kill(agent, no_restart=True)
        service.close()
        store = RayKeyValue()
        for key in store.keys(f"{self._namespace}/"):
            store.delete(key)
