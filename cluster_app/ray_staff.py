"""Carries out `staffing`'s commands on Ray: starts agents and runners, empties nodes, takes over agents' accounts.

Decides how an account is handed over so that it counts once. The agent closes it and notes that in its journal; the
head's agent merges it under the name noted; only then are journal and agent removed. Whoever dies in between, the same
account is handed over again under the same name, and the head's agent ignores what it has.

Two calls to the GCS with each look, whatever the number of nodes: who lives, and which actors there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_app.config import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.kv import KeyValueUnavailable
from cluster_app.leadership import NotLeading
from cluster_app.ray_agent import AgentActor
from cluster_app.ray_calls import actor_names, agent_name, boottime, find_actor
from cluster_app.ray_runner import RunnerActor
from cluster_app.staffing import Command, Look, Staffing
from observe.node_agent import Report
from observe.totals import Totals

__all__ = ["RayStaff", "living_nodes"]

_LOOK_S = 1.0
_PATIENCE_S = 30.0  # an agent or runner that is just starting on a busy machine answers by then
_COLLECT_S = 10.0
_HEAD = "node:__internal_head__"


async def living_nodes() -> dict[str, bool]:
    """The ids of the living nodes, each with whether it is the head."""
    nodes = await asyncio.get_running_loop().run_in_executor(None, ray.nodes)
    return {node["NodeID"]: _HEAD in node["Resources"] for node in nodes if node["Alive"]}


class RayStaff:
    """The agents and runners of one cluster, in the hands of one coordinator incarnation.

    :ivar dead: runners whose processes have ended.
    """

    def __init__(self, namespace: str, config: ClusterConfig, service: CoordinatorService) -> None:
        self.dead: set[str] = set()
        self._namespace = namespace
        self._config = config
        self._service = service
        self._plan = Staffing(
            config.runners_per_node,
            idle_node_s=config.idle_node_s,
            crowded_entities=config.crowded_entities,
            crowded_busy=config.crowded_busy,
        )
        self._stopping = False
        self._hurried = asyncio.Event()
        self._accounts = asyncio.Lock()  # a sum over all nodes must see each account in one place
        self._head = ""
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

    async def wanted(self, node_id: str, within_s: float = 20.0) -> None:
        """A process of that node wants to report; answered when its agent is there, unless that is on its way."""
        if node_id not in self._plan.given_up and node_id not in self._service.drained:
            return
        self._plan.want(node_id)
        self.hurry()
        async with self._accounts:
            pass  # its agent may be ending just now
        deadline = boottime() + within_s
        while node_id not in self._welcomed and (left := deadline - boottime()) > 0:
            looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._looked.append(looked)
            await asyncio.wait([looked], timeout=left)

    # -- looking and doing

    async def _look_once(self) -> None:
        loop = asyncio.get_running_loop()
        nodes = await living_nodes()
        names = await loop.run_in_executor(None, actor_names, self._namespace)
        self._head = next((node for node, is_head in nodes.items() if is_head), "")
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
            self._service.drained,
        )
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
        ).remote(self._namespace, node_id, self._config.report_s)
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
        ).remote(runner_id, self._namespace, self._config.model_dump_json())
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

    async def collect(self) -> list[Totals]:
        """The counts of all nodes, after every living process has reported. TimeoutError: an agent does not answer."""
        sums: list[Totals] = []
        async with self._accounts:
            for name in await asyncio.get_running_loop().run_in_executor(None, actor_names, self._namespace):
                if name.startswith("agent-"):
                    sums.extend(await self._collect_from(name.removeprefix("agent-")))
        return sums

    async def _collect_from(self, node_id: str) -> list[Totals]:
        for _ in range(100):
            agent = self._agent(node_id)
            if agent is None:
                break
            try:
                if node_id not in self._welcomed:
                    await self._welcome(node_id)
                return list(await asyncio.wait_for(agent.collect.remote(), _COLLECT_S))
            except ActorUnavailableError:
                await asyncio.sleep(0.05)  # it restarts, and goes on from its journal
            except RayError:
                break
        return []  # the node is gone
