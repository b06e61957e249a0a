"""The coordinator as a Ray actor: detached, on the head node, restarted by Ray; each restart claims a new term.

Decides nothing itself. Who owns what is `coordinator`'s business, who is started where that of `staffing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import uuid
from typing import Any

import ray
from ray.exceptions import RayError

from cluster_app.code import Conditions, ShippedType
from cluster_app.config import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.drain import DrainChoice, DrainRefused, chosen
from cluster_app.grants import Lease, Renewal
from cluster_app.ray_calls import actor_names, boottime, find_actor
from cluster_app.ray_kv import RayKeyValue
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_staff import RayStaff, living_nodes
from cluster_app.runner_record import RunnerView
from cluster_app.unknown_type import UnknownType
from cluster_app.version import __version__
from observe.recorder import Recorder
from observe.totals import Totals

__all__ = ["CoordinatorActor"]

_FIRST_RUNNER_TRIES = 200
_FIRST_RUNNER_PAUSE_S = 0.05


@ray.remote
class CoordinatorActor:
    """One coordinator incarnation."""

    def __init__(self, namespace: str, config: str) -> None:
        self._namespace = namespace
        self._config = ClusterConfig.model_validate_json(config)
        self._service: CoordinatorService | None = None
        self._beginning: asyncio.Task[CoordinatorService] | None = None

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
        self._staff = RayStaff(self._namespace, self._config, service)
        self._reporter = Reporter(self._namespace, incarnation, recorder, lambda: None)
        self._staffer = loop.create_task(self._staff.run())
        self._service = service
        return service

    # -- calls of runners and agents

    async def renew(self, renewal: Renewal) -> Lease:
        """Answer a runner's renewal."""
        service = await self._begun()
        return await service.renew(renewal)

    async def proven_dead(self, runner_id: str) -> None:
        """A node agent has seen the runner's process end."""
        service = await self._begun()
        self._staff.dead.add(runner_id)
        service.proven_dead(runner_id)
        self._staff.hurry()

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

    async def conditions(self, name: str, sources: dict[str, str]) -> Conditions:
        """What a driver must know to ship a type; waits for the first runner if there is none yet."""
        service = await self._begun()
        known = service.shipped(name)
        runners = self._healthy(service)
        for _ in range(_FIRST_RUNNER_TRIES):
            if runners or not sources:
                break
            await asyncio.sleep(_FIRST_RUNNER_PAUSE_S)
            runners = self._healthy(service)
        # With nobody to ask, all of it travels by value: that is never wrong.
        lacking = set() if runners else set(sources)
        for runner in runners if sources else ():
            with contextlib.suppress(RayError):
                lacking.update(await runner.missing.remote(sources))
        environment: Any = ray.get_runtime_context().runtime_env
        return Conditions("" if known is None else known.digest, sorted(lacking), dict(environment))

    def _healthy(self, service: CoordinatorService) -> list[Any]:
        found = [
            find_actor(view.runner_id, self._namespace)
            for view in service.coordinator.runners()
            if view.healthy
        ]
        return [runner for runner in found if runner is not None]

    async def register(self, shipped: ShippedType, replace: bool) -> str | None:
        """Take in a type's code, and have every runner that lives take it in; or why a runner cannot."""
        service = await self._begun()
        before = service.shipped(shipped.name)
        other = before is None or before.digest != shipped.digest
        data = pickle.dumps(shipped)
        if other:
            service.check(shipped, replace)
            for runner in self._healthy(service):
                with contextlib.suppress(RayError):  # it ended meanwhile
                    if (why := await runner.try_out.remote(data)) is not None:
                        return str(why)
        service.register(shipped, replace)
        if before is not None and other:
            for runner in self._healthy(service):
                with contextlib.suppress(RayError):
                    await runner.learn.remote(data)
        return None

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
        views = self._living(service)
        silent = {"entities": {}, "lanes": 0, "hot": []}
        states = await asyncio.gather(*(self._told_by(view.runner_id, "state", silent) for view in views))
        for view, state in zip(views, states, strict=True):
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

    async def runner_ids(self) -> list[str]:
        """The runners that are not proven dead."""
        return [view.runner_id for view in self._living(await self._begun())]

    def _living(self, service: CoordinatorService) -> list[RunnerView]:
        return [view for view in service.coordinator.runners() if view.runner_id not in self._staff.dead]

    async def _told_by(self, runner_id: str, method: str, otherwise: Any) -> Any:
        """What a runner answers; `otherwise` if it does not, soon."""
        handle = find_actor(runner_id, self._namespace)
        if handle is not None:
            with contextlib.suppress(RayError, TimeoutError):
                return await asyncio.wait_for(getattr(handle, method).remote(), 2.0)
        return otherwise

    async def collect(self) -> list[Totals]:
        """The counts of all nodes, after every living process has reported."""
        await self._begun()
        return await self._staff.collect()

    async def wanted(self, node_id: str) -> None:
        """A process of that node wants to report, and finds no agent there."""
        await self._begun()
        await self._staff.wanted(node_id)

    # -- drains

    async def drain(self, target: str) -> DrainChoice | Exception:
        """Begin to empty a node or runner; the refusal, if it is one."""
        service = await self._begun()
        try:
            choice = chosen(target, await living_nodes(), self._living(service), service.drained)
        except (ValueError, DrainRefused) as refusal:
            return refusal
        if choice.node_id is None:
            service.drain_runner(choice.target)
        else:
            service.drain(choice.node_id)
        self._staff.hurry()
        return choice

    async def undrain(self, node_id: str) -> Exception | None:
        """Let a drained node have runners again; the refusal, if it is one."""
        service = await self._begun()
        found = [node for node in sorted(service.drained) if node_id and node.startswith(node_id)]
        if len(found) != 1:
            return ValueError(
                f"no drained node {node_id!r}; there are: {', '.join(sorted(service.drained)) or 'none'}"
            )
        service.drain(found[0], draining=False)
        self._staff.take_back(found[0])
        return None

    async def held(self, runner_ids: list[str], wait_s: float) -> dict[str, int]:
        """The shards that each of these runners has; held for a while if they have any."""
        service = await self._begun()
        if service.held(runner_ids):
            await service.change(wait_s)
        return service.held(runner_ids)

    async def running(self, runner_ids: list[str]) -> list[str]:
        """What runs on these runners."""
        told = await asyncio.gather(*(self._told_by(runner_id, "running", []) for runner_id in runner_ids))
        return list(itertools.chain(*told))

    async def stop(self) -> None:
        """End the service: let entities go, end runners and agents, remove what is stored."""
        service = await self._begun()
        self._staff.stop()
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
