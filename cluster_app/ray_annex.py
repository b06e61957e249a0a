"""The owner's way to the Ray actors that its entities have for themselves.

Decides how such an actor is named, placed and ended, and what Ray's failures mean for it. The actors are not
detached: Ray ends them with their owner too, should its node's agent not be quicker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_app.annex_calls import Call, Lent, News, Reply, Tenancy
from cluster_app.envelope import Codec
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.owned_annex import OwnedAnnexes
from cluster_app.ray_calls import COORDINATOR, agent_name, boottime, find_actor, readable
from cluster_app.ray_entity import EntityActor, Whereabouts, read_reply, write_call
from cluster_app.ray_hindrance import hindrance
from cluster_app.runner import Runner
from entities.address import EntityAddress
from entities.annex import AnnexLost, AnsweredThere, Left
from entities.declaration import EntityDefinition
from entities.errors import RunnerNotRegistered, Unknown, describe

__all__ = ["RayAnnexes", "actor_name"]

_NAME_TAKEN_S = 1.0  # how long the name of an actor whose death Ray has not heard of yet is waited for


def actor_name(address: EntityAddress) -> str:
    """The name of an entity's actor, as Ray's listings show it: ``entity-Forecast/lax``."""
    return f"entity-{readable(str(address))}"


class RayAnnexes(OwnedAnnexes):
    """The processes of one runner's entities.

    :param config: the cluster's, as text.
    :ivar shipped: the pickled code of each type, by digest.
    :ivar known_agent: the agent of this node, once it was asked for.
    :ivar unburied: by address, done when the process that was started last for it is proven dead.
    """

    def __init__(
        self,
        runner: Runner,
        namespace: str,
        config: str,
        node_id: str,
        codec: Codec,
        neighbours: Neighbourhood,
    ) -> None:
        self.runner_id = runner.runner_id
        self.namespace = namespace
        self.config = config
        self.node_id = node_id
        self.shipped: dict[str, bytes] = {}
        self.unburied: dict[EntityAddress, asyncio.Future[None]] = {}
        super().__init__(runner, boottime, codec, neighbours, partial(_RayLink, self))
        self.known_agent: Any = None
        self._classes: dict[str, Any] = {}

    def agent(self) -> Any:
        """The agent of this node; None while there is none. May block for a call to the GCS."""
        if self.known_agent is None:
            self.known_agent = find_actor(agent_name(self.node_id), self.namespace)
        return self.known_agent

    def agent_of(self, node_id: str) -> Any:
        """The agent of another node, where one is wanted from now on; None while there is none. May block."""
        agent = find_actor(agent_name(node_id), self.namespace)
        coordinator = find_actor(COORDINATOR, self.namespace) if agent is None else None
        if coordinator is not None:
            coordinator.wanted.remote(node_id)  # a node without runners may have none
        return agent

    def actor_class(self, definition: EntityDefinition) -> Any:
        """A Ray actor class that Ray's listings show under the entity type's name."""
        made = self._classes.get(definition.name)
        if made is None:
            cls = type(definition.name, (EntityActor,), {"__module__": definition.cls.__module__})
            made = self._classes[definition.name] = ray.remote(cls)
        return made


class _RayLink:
    """The way to one process."""

    def __init__(self, annexes: RayAnnexes, tenancy: Tenancy, definition: EntityDefinition) -> None:
        self._annexes = annexes
        self._tenancy = tenancy
        self._definition = definition
        self._address = EntityAddress(tenancy.entity_type, tenancy.entity_id)
        self._creating: asyncio.Future[Any] | None = None
        self._actor: Any = None
        self._begun = False
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- its beginning

    async def begin(self) -> None:
        unburied = self._annexes.unburied
        while (before := unburied.get(self._address)) is not None:
            await asyncio.shield(before)
        unburied[self._address] = self._dead
        loop = asyncio.get_running_loop()
        self._creating = loop.run_in_executor(None, self._create)
        try:
            self._actor = await asyncio.shield(self._creating)
        except (ValueError, TypeError, RayError) as refused:
            raise self._not_scheduled(str(refused)) from refused
        try:
            where: Whereabouts = await self._actor.whereabouts.remote()
        except RayActorError as died:
            raise AnnexLost(f"its process ended before it had begun: {died}") from died
        except RayError as refused:  # cannot be scheduled, or its environment cannot be set up
            raise self._not_scheduled(str(refused) or describe(refused)) from refused
        await self._have_admitted(where)
        self._begun = True

    async def _have_admitted(self, where: Whereabouts) -> None:
        """Have its end seen from here on, before it loads anything of the entity's.

        Asked for by its owner, which has the way to the agent open: the process would have to find it first. It is
        known by when it was started too, so however late this comes, no other process is taken for it.
        """
        annexes, loop = self._annexes, asyncio.get_running_loop()
        for _ in range(100):
            try:
                agents = [annexes.known_agent or await loop.run_in_executor(None, annexes.agent)]
                if where.node_id != annexes.node_id:  # the agent there sees its end, and tells the other one
                    agents.append(await loop.run_in_executor(None, annexes.agent_of, where.node_id))
                for agent in agents:
                    if not await agent.admit.remote(self._tenancy.process, *where):
                        raise AnnexLost("its process ended, or was given up, before it had begun")
                return
            except (RayError, AttributeError):
                await asyncio.sleep(0.05)  # an agent restarts, or is not there yet
        raise AnnexLost("no agent of its node can see its end")

    def _not_scheduled(self, why: str) -> RunnerNotRegistered:
        error = RunnerNotRegistered(f"its process cannot be started: {why}", address=self._address)
        error.retryable = False
        return error

    def _create(self) -> Any:
        annexes, demand = self._annexes, self._definition.options.demand
        if annexes.agent() is None:
            raise ValueError("its node has no agent")
        asked = dict(demand.resources or {})
        memory = asked.pop("memory", None)
        options: dict[str, Any] = {
            "namespace": annexes.namespace,
            "num_cpus": demand.num_cpus or 0,
            "num_gpus": demand.num_gpus or 0,
            "resources": asked,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 1000,
            "enable_task_events": False,
            # A soft one would do in either case, but Ray 2.60 forgets it for an actor that demands nothing; such a one
            # fits on any node that lives.
            "scheduling_strategy": NodeAffinitySchedulingStrategy(
                annexes.node_id, soft=bool(demand.amounts())
            ),
        }
        if memory is not None:
            options["memory"] = memory
        if demand.runtime_env is not None:
            options["runtime_env"] = dict(demand.runtime_env)
        arguments = (
            self._tenancy,
            annexes.namespace,
            annexes.config,
            annexes.shipped[self._definition.digest],
        )
        make = annexes.actor_class(self._definition)
        name = actor_name(self._address)
        give_up_at = time.monotonic() + _NAME_TAKEN_S
        while True:
            try:
                return make.options(name=name, **options).remote(*arguments)
            except ValueError:
                if find_actor(name, annexes.namespace) is None:
                    raise
                if time.monotonic() > give_up_at:
                    # On a node that cannot be reached: suspended, but not known to be dead. It keeps its name.
                    name = f"{name}~{self._tenancy.process.rpartition('/')[2]}"
                    give_up_at = float("inf")
                time.sleep(0.01)

    async def hindrance(self) -> str | None:
        if self._begun or self._actor is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(
            None, hindrance, self._definition.options.demand
        )

    # -- while it lives

    async def _ask(self, method: str, *args: Any) -> Any:
        if self._actor is None:
            raise AnnexLost(sent=False)
        try:
            return await getattr(self._actor, method).remote(*args)
        except (RayActorError, OutOfMemoryError) as gone:
            # Dead, or out of reach: then it is ended, for its owner can do nothing more with it.
            raise AnnexLost from gone

    async def activate(self, lent: Lent, trace: str | None) -> Reply:
        return read_reply(await self._ask("activate", lent, trace))

    async def call(self, call: Call) -> Reply:
        try:
            return read_reply(await self._ask("call", *write_call(call)))
        except (
            RayError
        ) as failed:  # what neither the entity nor its process is to blame for: the store is full ...
            raise AnsweredThere(
                Unknown(describe(failed), address=self._address, method=call.method)
            ) from failed

    def cancel(self, number: int) -> None:
        if self._actor is not None:
            self._actor.cancel.remote(number)

    async def news(self, lent: Lent) -> News:
        try:
            told: News = await self._ask("news", lent)
        except RayError as failed:  # nothing is lent any more, so it is of no use
            raise AnnexLost from failed
        return told

    async def states(self) -> dict[str, Any] | None:
        state: dict[str, Any] | None = await self._ask("states")
        return state

    # -- its end

    async def leave(self, reason: str) -> Left:
        left: Left = await self._ask("leave", reason)
        return left

    async def bury(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._creating is not None:
            with contextlib.suppress(Exception):
                self._actor = await self._creating
        actor = self._actor
        if actor is not None:
            if grace_s:
                actor.__ray_terminate__.remote()  # in good order: what the user's code registered for its end runs
            else:
                await loop.run_in_executor(None, _kill, actor)
        await self._proven(grace_s)
        if actor is not None and grace_s:
            await loop.run_in_executor(None, _kill, actor)  # it is dead; this makes Ray give its name free
        self._actor = actor = self._creating = None
        if self._annexes.unburied.get(self._address) is self._dead:
            del self._annexes.unburied[self._address]
        self._dead.set_result(None)

    async def _proven(self, grace_s: float) -> None:
        while True:
            agent = await asyncio.get_running_loop().run_in_executor(None, self._annexes.agent)
            try:
                if agent is not None:
                    await agent.bury.remote(self._tenancy.process, grace_s)
                    return
            except RayError:
                pass  # it restarts, and knows of the process by its journal
            await asyncio.sleep(0.1)


def _kill(actor: Any) -> None:
    with contextlib.suppress(Exception):
        ray.kill(actor, no_restart=True)
