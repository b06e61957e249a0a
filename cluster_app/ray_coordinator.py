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
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from cluster_app.code import Conditions, ShippedType
from cluster_app.config_text import read_config
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.drain import DrainChoice, DrainRefused, chosen, named
from cluster_app.grants import Lease, Renewal
from cluster_app.ray_calls import actor_names, boottime, find_actor, owner_of
from cluster_app.ray_client import driver_pid
from cluster_app.ray_kv import RayKeyValue, remove_all
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_staff import RayStaff, living_nodes
from cluster_app.routes import write_routes
from cluster_app.runner_record import RunnerView
from cluster_app.unknown_type import UnknownType
from cluster_app.version import __version__
from observe.recorder import Recorder
from observe.totals import Totals

__all__ = ["CoordinatorActor"]

_FIRST_RUNNER_TRIES = 200
_FIRST_RUNNER_PAUSE_S = 0.05
_SILENT_S = 0.5  # what a runner may take at least, however short its lease
_LAST_SAVES_S = 10.0  # longer than a runner gives its entities, and then its last report
_LAST_EXPORT_S = 7.0  # longer than an agent waits for its collector

_Call = TypeVar("_Call", bound=Callable[..., Any])


def _again(method: _Call) -> _Call:
    """A call that may run twice: Ray makes it again as soon as a restarted coordinator lives.

    Without that, up to two seconds pass before Ray tells that a call under way has failed (`CheckTimeoutTasks` of its
    actor task submitter), which is more than the rest of a failover takes.
    """
    repeat: Any = ray.method(max_task_retries=-1)
    repeated: _Call = repeat(method)
    return repeated


@ray.remote
class CoordinatorActor:
    """One coordinator incarnation."""

    def __init__(self, namespace: str, config: str) -> None:
        self._namespace = namespace
        self._config_text = config
        self._config = read_config(config)
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
        beginning = self._beginning
        try:
            return await asyncio.shield(beginning)
        except BaseException:
            if beginning.done() and self._beginning is beginning:
                self._beginning = (
                    None  # the store was slow or away: the next call begins anew, with the next term
                )
            raise

    async def _begin(self) -> CoordinatorService:
        loop = asyncio.get_running_loop()
        recorder = Recorder(enabled=self._config.metrics)
        incarnation = f"coordinator-{uuid.uuid4().hex[:8]}"
        service = CoordinatorService(
            self._namespace, incarnation, RayKeyValue(), self._config, loop, boottime, recorder
        )
        self._staff = RayStaff(self._namespace, self._config_text, service)
        self._reporter = Reporter(self._namespace, incarnation, recorder, lambda: None)
        self._reporter.begin()
        self._staffer = loop.create_task(self._staff.run())
        self._service = service
        return service

    # -- calls of runners and agents

    @_again
    async def renew(self, renewal: Renewal) -> Lease:
        """Answer a runner's renewal."""
        service = await self._begun()
        return await service.renew(renewal)

    @_again
    async def proven_dead(self, process: str) -> None:
        """A node agent has seen the process of a runner, or of any other sender, end."""
        service = await self._begun()
        service.proven_dead(process)
        if process.startswith("runner-") and owner_of(process) is None:
            self._staff.dead.add(process)
            self._staff.hurry()

    @_again
    async def shipped(self, name: str) -> bytes | None:
        """The code of a registered type."""
        service = await self._begun()
        shipped = service.shipped(name)
        return None if shipped is None else pickle.dumps(shipped)

    # -- calls of clients

    @_again
    async def hello(self) -> dict[str, Any]:
        """What a new connection must know."""
        service = await self._begun()
        return {"version": __version__, "config": self._config_text, "term": service.term}

    @_again
    async def driver_pid(self, job_id: str) -> int:
        """See `ray_client.driver_pid`."""
        return await asyncio.get_running_loop().run_in_executor(None, driver_pid, job_id)

    @_again
    async def routes(self, known_version: int) -> bytes | None:
        """Where the shards are; held while there is nothing new."""
        service = await self._begun()
        routes = await service.routes(known_version)
        return None if routes is None else write_routes(routes)

    @_again
    async def conditions(self, name: str, sources: dict[str, str]) -> Conditions:
        """What a driver must know to ship a type; waits for the first runner if there is none yet."""
        service = await self._begun()
        known = service.shipped(name)
        runners = self._healthy(service)
        for _ in range(_FIRST_RUNNER_TRIES):
            if runners or not sources or self._staff.nobody_comes:
                break
            await asyncio.sleep(_FIRST_RUNNER_PAUSE_S)
            runners = self._healthy(service)
        # With nobody to ask, or nobody who answers, all of it travels by value: that is never wrong.
        unknown = sources if known is None or known.by_value else ()
        lacking = set() if runners else set(sources)
        if sources:
            lacking.update(*await self._each(runners, unknown, lambda runner: runner.missing.remote(sources)))
        environment: Any = ray.get_runtime_context().runtime_env
        return Conditions("" if known is None else known.digest, sorted(lacking), dict(environment))

    def _healthy(self, service: CoordinatorService) -> list[Any]:
        return self._found(view for view in service.coordinator.runners() if view.healthy)

    def _found(self, views: Iterable[RunnerView]) -> list[Any]:
        found = [find_actor(view.runner_id, self._namespace) for view in views]
        return [runner for runner in found if runner is not None]

    @_again
    async def register(self, shipped: ShippedType, replace: bool) -> str | None:
        """Take in a type's code, and have every runner that lives take it in; or why a runner cannot."""
        service = await self._begun()
        before = service.shipped(shipped.name)
        other = before is None or before.digest != shipped.digest
        data = pickle.dumps(shipped)
        if other:
            service.check(shipped, replace)
            whys = await self._each(self._healthy(service), None, lambda runner: runner.try_out.remote(data))
            if refusals := [why for why in whys if why is not None]:
                return str(refusals[0])
        replaces = service.may_replace(shipped, replace)
        service.register(shipped, replace)
        # Also if it is known: this may be the same call again, of a coordinator that was killed before it told anybody.
        # And all that live: who can't be reached now, or has not been heard under this term, may serve all the same.
        if replaces:
            await self._each(
                self._found(self._living(service)), None, lambda runner: runner.learn.remote(data)
            )
        return None

    async def _each(self, runners: list[Any], otherwise: Any, ask: Callable[[Any], Any]) -> list[Any]:
        """What runners answer that are asked at the same time; `otherwise` for one that has ended, or is silent.

        One that stands still gets the question when it wakes. It is not waited for: whoever asks may wait for it in
        the name of a message. One that works is never silent for so long: it renews its lease more often.
        """
        silent_s = max(_SILENT_S, self._config.lease_s / 3)

        async def answer(runner: Any) -> Any:
            try:
                return await asyncio.wait_for(ask(runner), silent_s)
            except (RayError, TimeoutError):
                return otherwise

        return list(await asyncio.gather(*(answer(runner) for runner in runners)))

    @_again
    async def keep(self, name: str) -> None:
        """Keep exactly one entity of a registered type."""
        service = await self._begun()
        service.keep(name)

    @_again
    async def type_names(self) -> list[str]:
        """The names of all registered types."""
        service = await self._begun()
        return service.type_names()

    @_again
    async def owner(self, entity_type: str, entity_id: str) -> str | UnknownType | None:
        """The runner that an entity belongs to; the error is returned, for what is raised may also be a failed call."""
        service = await self._begun()
        try:
            return service.owner(entity_type, entity_id)
        except UnknownType as unknown:
            return unknown

    @_again
    async def status(self) -> dict[str, Any]:
        """Who is where."""
        service = await self._begun()
        runners: list[dict[str, Any]] = []
        entities: dict[str, int] = {}
        hot: list[tuple[str, str, float, float]] = []
        views = self._living(service)
        silent = {"entities": {}, "lanes": 0, "hot": []}
        telemetry = asyncio.ensure_future(self._staff.telemetry())
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
            "telemetry": await telemetry,
        }

    @_again
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

    @_again
    async def collect(self) -> tuple[list[Totals], list[str]]:
        """The counts of all nodes, after every living process has reported, and who has not."""
        await self._begun()
        return await self._staff.collect()

    async def export(self) -> None:
        """Ray is about to end: have what has been counted until now leave it."""
        await self._begun()
        await self._staff.export()

    @_again
    async def wanted(self, node_id: str) -> None:
        """A process of that node wants to report, and finds no agent there."""
        await self._begun()
        await self._staff.wanted(node_id)

    # -- drains

    async def drain(self, target: str) -> DrainChoice | Exception:
        """Begin to empty a node or runner; the refusal, if it is one."""
        service = await self._begun()
        try:
            nodes = await living_nodes()
            choice = chosen(
                target, nodes, self._living(service), {*service.kept_empty, *self._staff.kept_free}
            )
        except (ValueError, DrainRefused) as refusal:
            return refusal
        if choice.node_id is not None and (stuck := self._staff.only_at(choice.node_id) & service.groups):
            return DrainRefused(
                f"no other node could take the shards of {', '.join(map(repr, sorted(stuck)))}, which are pinned: "
                f"add a node that has what they ask for, then drain {choice.node_id}"
            )
        if choice.node_id is None:
            service.drain_runner(choice.target)
        else:
            service.drain(choice.node_id)
        self._staff.hurry()
        return choice

    async def undrain(self, node_id: str) -> Exception | None:
        """Let a drained node have runners again; the refusal, if it is one."""
        service = await self._begun()
        try:
            node = named(node_id, service.drained, "drained node")
        except ValueError as refusal:
            return refusal
        service.drain(node, draining=False)
        self._staff.take_back(node)
        return None

    @_again
    async def held(self, runner_ids: list[str], wait_s: float) -> dict[str, int]:
        """The shards that each of these runners has; held for a while if they have any."""
        service = await self._begun()
        if service.held(runner_ids):
            await service.change(wait_s)
        return service.held(runner_ids)

    @_again
    async def running(self, runner_ids: list[str]) -> list[str]:
        """What runs on these runners."""
        told = await asyncio.gather(*(self._told_by(runner_id, "running", []) for runner_id in runner_ids))
        return list(itertools.chain(*told))

    async def stop(self) -> None:
        """End the service: let entities go, end runners and agents, remove what is stored."""
        service = await self._begun()
        self._staff.stop()
        names = await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace)
        runners, agents = ([n for n in names if n.startswith(kind)] for kind in ("runner-", "agent-"))
        await self._end_all(runners, lambda runner: runner.stop.remote(), _LAST_SAVES_S)
        # Its own last counts too, before the agents' last exports.
        await asyncio.get_running_loop().run_in_executor(None, self._reporter.end)
        await self._end_all(agents, lambda agent: agent.forget.remote(), _LAST_EXPORT_S)
        service.close()
        remove_all(f"{self._namespace}/")

    async def _end_all(self, names: list[str], ask: Callable[[Any], Any], within_s: float) -> None:
        """Have actors end what they do, all at the same time; each is ended as soon as it has, and then in any case."""

        async def end(name: str) -> None:
            actor = find_actor(name, self._namespace)
            if actor is not None:
                with contextlib.suppress(RayError, TimeoutError):
                    await asyncio.wait_for(ask(actor), within_s)
                ray.kill(actor, no_restart=True)

        await asyncio.gather(*(end(name) for name in names))
