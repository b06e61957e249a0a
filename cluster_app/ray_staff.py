"""Carries out `staffing`'s commands on Ray: starts agents and runners, empties nodes, takes over agents' accounts.

Decides how an account is handed over so that it counts once. The agent closes it and notes that in its journal; the
head's agent merges it under the name noted; only then are journal and agent removed. Whoever dies in between, the same
account is handed over again under the same name, and the head's agent ignores what it has.

Three calls to the GCS with each look, whatever the number of nodes: who lives, who is about to be taken away, and
which actors there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Collection
from typing import Any

import ray
from ray._private.state import state as ray_state
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_app.config_text import read_config
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.kv import KeyValueUnavailable
from cluster_app.leadership import NotLeading
from cluster_app.notices import Notices
from cluster_app.ray_agent import AgentActor
from cluster_app.ray_calls import actor_names, agent_name, boottime, find_actor
from cluster_app.ray_runner import RunnerActor
from cluster_app.staffing import Command, Look, Staffing
from cluster_app.standing import Standing, may_have_runners, standing_of
from observe.export_status import ExportStatus
from observe.node_agent import Report
from observe.totals import Totals

__all__ = ["RayStaff", "living_nodes"]

_LOOK_S = 1.0
_PATIENCE_S = 30.0  # an agent or runner that is just starting on a busy machine answers by then
_COLLECT_S = 10.0
_WELCOME_S = 20.0  # how long who wants an agent waits for it, before asking again
_TELEMETRY_S = 2.0
_EXPORT_S = 6.0  # longer than an agent waits for its collector
_HEAD = "node:__internal_head__"

logger = logging.getLogger(__name__)


async def living_nodes() -> dict[str, dict[str, Any]]:
    """The living nodes by id, each as `ray.nodes` tells of it."""
    return _living(await _nodes())


async def _nodes() -> list[dict[str, Any]]:
    """Every node of which Ray knows, those lost too."""
    nodes: list[dict[str, Any]] = await asyncio.get_running_loop().run_in_executor(None, ray.nodes)
    return nodes


def _living(nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {node["NodeID"]: node for node in nodes if node["Alive"]}


async def nodes_taken_away() -> dict[str, float | None]:
    """The ids of the nodes that Ray drains, each with the seconds until it is ended by force; None: not at all.

    Hidden in Ray, but what its own Serve and Train go by: `ray drain-node`, the autoscaler, and SIGTERM to `ray start
    --block` are all told there. The deadline is in the time of who asked for it.
    """
    ask = getattr(ray_state, "get_draining_nodes", dict)  # a Ray without it tells of none
    told: dict[str, int] = await asyncio.get_running_loop().run_in_executor(None, ask)
    now_ms = time.time() * 1000
    return {
        node: (deadline_ms - now_ms) / 1000 if deadline_ms else None for node, deadline_ms in told.items()
    }


class RayStaff:
    """The agents and runners of one cluster, in the hands of one coordinator incarnation.

    :ivar dead: runners whose processes have ended.
    :ivar kept_free: nodes that the configuration wants no runners on.
    """

    def __init__(self, namespace: str, config_text: str, service: CoordinatorService) -> None:
        self.dead: set[str] = set()
        self._namespace = namespace
        self._config_text = config_text
        self._config = config = read_config(config_text)
        self._service = service
        self._plan = Staffing(
            config.runners_per_node,
            idle_node_s=config.idle_node_s,
            crowded_entities=config.crowded_entities,
            crowded_busy=config.crowded_busy,
        )
        self._standings: dict[str, Standing] = {}
        self.kept_free: set[str] = set()
        self._stopping = False
        self._hurried = asyncio.Event()
        self._accounts = asyncio.Lock()  # a sum over all nodes must see each account in one place
        self._head = ""
        self._notices = Notices()
        self._welcomed: set[str] = set()
        self._looked: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Look, and do what is to be done, until `stop`."""
        while not self._stopping:
            with contextlib.suppress(RayError, NotLeading, KeyValueUnavailable):
                await self._look_once()
            looked, self._looked = self._looked, []
            for future in looked:
                if not future.done():
                    future.set_result(None)
            try:
                await asyncio.wait_for(self._hurried.wait(), _LOOK_S)
            except TimeoutError:
                continue
            self._hurried.clear()

    @property
    def nobody_comes(self) -> bool:
        """Whether there is no node now that may have runners."""
        return bool(self._standings) and not self._standings.keys() - self._service.drained - self.kept_free

    def only_at(self, node_id: str) -> set[str]:
        """The pinned groups that no other node may serve now."""
        others = self._standings.keys() - self._service.drained - self.kept_free - {node_id}
        elsewhere = {group for other in others for group in self._standings[other].groups}
        here = self._standings.get(node_id)
        return set() if here is None else set(here.groups - elsewhere)

    def hurry(self) -> None:
        """Look again soon: something has changed."""
        self._hurried.set()

    def take_back(self, node_id: str) -> None:
        """That node is to have its runners again."""
        self._plan.want(node_id)
        self.hurry()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping = True
        self.hurry()

    async def wanted(self, node_id: str) -> None:
        """A process of that node wants to report; answered when its agent is there, unless that is on its way."""
        if node_id not in {*self._plan.given_up, *self._service.kept_empty, *self.kept_free}:
            return
        self._plan.want(node_id)
        self.hurry()
        async with self._accounts:
            pass  # its agent may be ending just now
        deadline = boottime() + _WELCOME_S
        while node_id not in self._welcomed and (left := deadline - boottime()) > 0:
            looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._looked.append(looked)
            await asyncio.wait([looked], timeout=left)

    # -- looking and doing

    async def _look_once(self) -> None:
        loop = asyncio.get_running_loop()
        known = await _nodes()
        nodes = _living(known)
        # One that Ray has given up it does not take back: should its raylet only have stood still, that ends itself.
        self._service.lose_nodes(node["NodeID"] for node in known if not node["Alive"])
        await self._heed_notices(nodes)
        names = await loop.run_in_executor(None, actor_names, self._namespace)
        self._head = next((name for name, node in nodes.items() if _HEAD in node["Resources"]), "")
        self._standings = {
            name: standing_of(self._config, node["Labels"], node["Resources"]) for name, node in nodes.items()
        }
        self.kept_free = {
            name
            for name, node in nodes.items()
            if not may_have_runners(self._config, node["Labels"], node["Resources"])
        }
        self.dead &= names | {view.runner_id for view in self._service.coordinator.runners()}
        agents = {node for node in nodes if agent_name(node) in names}
        self._welcomed &= agents
        seen = Look(
            boottime(),
            self._head,
            tuple(nodes),
            agents,
            {node: self._runners_of(node, names) for node in nodes},
            {view.runner_id: view for view in self._service.coordinator.runners()},
            {*self._service.kept_empty, *self.kept_free},
            {name: standing.groups for name, standing in self._standings.items()},
            self._service.ending,
        )
        self._cut_short(seen)
        for node in agents - self._welcomed - set(self._plan.given_up):
            with contextlib.suppress(RayError, TimeoutError):
                async with self._accounts:
                    await asyncio.wait_for(self._welcome(node), _PATIENCE_S)
        for command in self._plan.look(seen):
            if self._stopping:
                return
            # What a process that stands still does not answer is asked again; the others must not wait for it.
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(self._do(command, seen), _PATIENCE_S)

    async def _heed_notices(self, nodes: Collection[str]) -> None:
        """Empty the nodes that are about to be taken away."""
        told = await nodes_taken_away()
        for node, left_s in self._notices.hear({n: left for n, left in told.items() if n in nodes}).items():
            logger.warning(
                "Ray is about to take node %s away%s: its shards move to other nodes",
                node,
                "" if left_s is None else f" in {left_s:.0f} s",
            )
        self._service.expect_end_of(self._notices.nodes)

    def _cut_short(self, seen: Look) -> None:
        """Have the runners end that are left on nodes which end any moment, if others can take their shards."""
        for node in self._notices.due() if self._service.anybody_stays() else ():
            for runner_id in seen.runners.get(node, ()):
                runner = find_actor(runner_id, self._namespace)
                if runner is not None:
                    runner.cut_short.remote()  # nobody waits for the answer: there may be none

    def _runners_of(self, node_id: str, names: set[str]) -> tuple[str, ...]:
        return tuple(
            n for n in sorted(names) if n.startswith(f"runner-{node_id[:8]}-") and n not in self.dead
        )

    async def _do(self, command: Command, seen: Look) -> None:
        node = command.node_id
        if command.what == "agent":
            await self._start_agent(node)
        elif command.what == "runner":
            self._start_runner(node)
        elif command.what == "empty":
            await self._empty(node, seen)
        else:
            await self._retire(node)

    def _placed(self, node_id: str) -> dict[str, Any]:
        return {
            "namespace": self._namespace,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_task_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        }

    async def _start_agent(self, node_id: str) -> None:
        agents: Any = AgentActor
        agents.options(
            name=agent_name(node_id),
            max_restarts=-1,
            max_concurrency=2000,
            get_if_exists=True,
            **self._placed(node_id),
        ).remote(self._namespace, node_id, self._config.report_s, self._config.lease_s + self._config.drift_s)
        async with self._accounts:
            await self._welcome(node_id)

    def _start_runner(self, node_id: str) -> None:
        runners: Any = RunnerActor
        runner_id = f"runner-{node_id[:8]}-{uuid.uuid4().hex[:8]}"
        runner = runners.options(
            name=runner_id,
            max_restarts=0,
            max_concurrency=10_000,
            enable_task_events=False,
            **self._placed(node_id),
        ).remote(runner_id, self._namespace, self._config_text, self._standings[node_id])
        runner.start.remote()

    async def _empty(self, node_id: str, seen: Look) -> None:
        agent = self._agent(node_id)
        if agent is not None and await agent.reporting.remote():
            self._plan.in_use(node_id, boottime())  # and so busy for Ray in any case
            return
        for runner_id in seen.runners[node_id]:
            runner = find_actor(runner_id, self._namespace)
            if runner is not None:
                await runner.leave.remote()

    # -- accounts

    def _agent(self, node_id: str) -> Any:
        return find_actor(agent_name(node_id), self._namespace)

    async def _welcome(self, node_id: str) -> None:
        """Have an agent begin, after what one before it did not finish; holding the lock."""
        agent = self._agent(node_id)
        if agent is None:
            return
        account = await agent.welcome.remote()
        if account is not None:
            await self._adopt(account)
            await agent.reopen.remote()
        self._welcomed.add(node_id)

    async def _retire(self, node_id: str) -> None:
        async with self._accounts:
            agent = self._agent(node_id)
            if agent is None:
                return
            self._welcomed.discard(node_id)  # should this break off, whatever is left of it is to be finished
            account = await agent.retire.remote()
            if account is None:
                self._welcomed.add(node_id)  # somebody reports there still, or is just ending
                return
            await self._adopt(account)
            await agent.forget.remote()
            ray.kill(agent, no_restart=True)

    async def _adopt(self, account: Report) -> None:
        head = self._agent(self._head)
        if head is None:
            raise RayError("the head node has no agent")
        await head.adopt.remote(account)

    async def collect(self) -> tuple[list[Totals], list[str]]:
        """The counts of all nodes, after every living process has reported, and who has not.

        :raises TimeoutError: an agent does not answer.
        """
        sums: list[Totals] = []
        missing: list[str] = []
        async with self._accounts:
            for name in await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace):
                if name.startswith("agent-"):
                    counted, silent = await self._collect_from(name.removeprefix("agent-"))
                    sums += counted
                    missing += silent
        return sums, missing

    async def telemetry(self) -> list[tuple[str, list[ExportStatus]]]:
        """How it goes with each node's exporters, by node; a node whose agent does not answer soon is left out."""
        names = await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace)
        nodes = sorted(name.removeprefix("agent-") for name in names if name.startswith("agent-"))
        told = await asyncio.gather(*(self._told_by_agent(node, "telemetry", _TELEMETRY_S) for node in nodes))
        return [(node, states) for node, states in zip(nodes, told, strict=True) if states is not None]

    async def export(self) -> None:
        """Have every living process report, and every agent export; nothing where nothing is to leave."""
        nodes = [node for node, states in await self.telemetry() if states]
        if nodes:
            with contextlib.suppress(TimeoutError):
                await self.collect()
            await asyncio.gather(*(self._told_by_agent(node, "export", _EXPORT_S) for node in nodes))

    async def _told_by_agent(self, node_id: str, method: str, within_s: float) -> Any:
        """What an agent answers; None if it does not, soon."""
        agent = self._agent(node_id)
        if agent is not None:
            with contextlib.suppress(RayError, TimeoutError):
                return await asyncio.wait_for(getattr(agent, method).remote(), within_s)
        return None

    async def _collect_from(self, node_id: str) -> tuple[list[Totals], list[str]]:
        for _ in range(100):
            agent = self._agent(node_id)
            if agent is None:
                break
            try:
                if node_id not in self._welcomed:
                    await self._welcome(node_id)
                counted, silent = await asyncio.wait_for(agent.collect.remote(), _COLLECT_S)
                return counted, silent
            except ActorUnavailableError:
                await asyncio.sleep(0.05)  # it restarts, and goes on from its journal
            except RayError:
                break
        return [], []  # the node is gone
