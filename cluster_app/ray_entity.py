"""The process of one entity as a Ray actor: owned by a runner, never restarted, one event loop.

Decides nothing about messages: it feeds an `AnnexedEntity` with calls. It is no runner, and counts only what the
entity itself sends and counts; its owner counts the entity's life and messages.

Ray has no class of this name in its listings: each entity type gets a subclass named after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import threading
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import RayError

from cluster_app import own_modules
from cluster_app.annex_calls import Call, Lent, Reply, Tenancy
from cluster_app.annexed_entity import AnnexedEntity
from cluster_app.client import Client
from cluster_app.code import load
from cluster_app.envelope import Codec, Packed
from cluster_app.lent_lease import LentWay
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.ray_calls import COORDINATOR, agent_name, boottime, find_actor, here
from cluster_app.ray_inside import offer_inside
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_transport import RayDirectory, RayTransport
from cluster_app.reference import connections
from entities import response
from entities.log_address import carry_addresses
from observe.recorder import Recorder

__all__ = ["EntityActor", "read_reply", "write_call"]


def write_call(call: Call) -> tuple[Any, ...]:
    """A call as the arguments of an actor's method."""
    attachments = call.arguments.attachments
    if not attachments:
        return (pickle.dumps(call, protocol=5),)
    bare = call._replace(arguments=Packed(call.arguments.data))
    # Inside a list they stay references, and Ray knows that the process holds them.
    return pickle.dumps(bare, protocol=5), list(attachments)


def _read_call(data: bytes, attachments: list[Any] | None) -> Call:
    call: Call = pickle.loads(data)
    if attachments:
        call = call._replace(arguments=Packed(call.arguments.data, tuple(attachments)))
    return call


def _write_reply(reply: Reply) -> Any:
    if not isinstance(reply.value, Packed) or not reply.value.attachments:
        return reply
    return reply._replace(value=Packed(reply.value.data)), list(reply.value.attachments)


def read_reply(told: Any) -> Reply:
    """A reply from what the actor's method returned."""
    if isinstance(told, Reply):
        return told
    reply, attachments = told
    bare: Reply = reply
    return bare._replace(value=Packed(bare.value.data, tuple(attachments)))


class EntityActor:
    """The process of one entity.

    :param shipped: the entity type's code, pickled.
    :param agent: the agent of its owner's node, where it must be admitted.
    """

    def __init__(
        self, tenancy: Tenancy, namespace: str, config: str, shipped: bytes, agent: Any, agent_node: str
    ) -> None:
        self._tenancy = tenancy
        self._namespace = namespace
        self._config = config
        self._shipped = shipped
        self._agent = agent
        self._agent_node = agent_node
        self._ready = False
        self._entity: AnnexedEntity

    def __repr__(self) -> str:
        return f"{self._tenancy.entity_type}/{self._tenancy.entity_id}"

    async def begin(self) -> None:
        """Be admitted, and have everything at hand but the entity itself; raises what loading its code raises."""
        loop = self._loop = asyncio.get_running_loop()
        # By its module: this class may be pickled with its globals, and a name imported here would be a copy.
        response.RUNNER_THREADS.add(threading.get_ident())
        own_modules.host()
        carry_addresses()
        await self._be_admitted()
        # The same figures without the class, which checks them: loading that takes a tenth of a process's start.
        config: Any = SimpleNamespace(**json.loads(self._config))
        recorder = Recorder(enabled=config.metrics)
        # Before its code is loaded, which may take long: whoever collects the counts waits for every process admitted.
        self._reporter = Reporter(self._namespace, self._tenancy.process, recorder, self._flush)
        definition = load(pickle.loads(self._shipped))
        codec = Codec(attach=(ray.ObjectRef,))
        neighbourhood = Neighbourhood()
        self._entity = entity = AnnexedEntity(
            self._tenancy,
            definition,
            loop,
            boottime,
            codec,
            neighbourhood,
            config.lease_s / 3,
            lambda: self._client.go_on(),
        )
        self._client = client = Client(
            self._tenancy.process,
            config,
            RayTransport(self._namespace),
            RayDirectory(self._namespace),
            recorder,
            codec,
            boottime,
            self._wake_soon,
            LentWay(entity.lease, loop),
        )
        self._ready = True
        neighbourhood.join(client)
        connections.append(client)  # a reference that the entity itself unpickles leads out by it
        offer_inside(self._namespace, client, self._reporter, self._config)
        entity.lease.mark()

    async def _be_admitted(self) -> None:
        node_id = here()
        for _ in range(100):
            try:
                agents = [self._agent]
                if node_id != self._agent_node:  # the agent here sees its end, and tells the other one
                    agents.append(await asyncio.to_thread(self._agent_of, node_id))
                for agent in agents:
                    if not await agent.admit.remote(self._tenancy.process, os.getpid(), node_id):
                        os._exit(1)  # whoever wanted it has ended, or has given it up
                return
            except (RayError, AttributeError):
                await asyncio.sleep(0.05)  # an agent restarts, or is not there yet
        os._exit(1)  # nobody would see its end

    def _agent_of(self, node_id: str) -> Any:
        agent = find_actor(agent_name(node_id), self._namespace)
        coordinator = find_actor(COORDINATOR, self._namespace) if agent is None else None
        if coordinator is not None:
            coordinator.wanted.remote(node_id)  # a node without runners may have none
        return agent

    def _wake_soon(self, when: float) -> None:
        self._loop.call_soon_threadsafe(self._wake_at, when)

    def _wake_at(self, when: float) -> None:
        self._loop.call_later(max(0.0, when - boottime()), self._client.tick)

    # -- calls of its owner

    async def activate(self, lent: Lent) -> Reply:
        """Bring the entity to life."""
        return await self._entity.activate(lent)

    async def call(self, data: bytes, attachments: list[Any] | None = None) -> Any:
        """Run one message."""
        return _write_reply(await self._entity.call(_read_call(data, attachments)))

    async def cancel(self, number: int) -> None:
        """That message is not wanted any more."""
        self._entity.cancel(number)

    async def news(self, lent: Lent) -> Any:
        """Answer when there is something to say, or when it is time to be lent more."""
        return await self._entity.news(lent)

    async def leave(self, reason: str) -> Any:
        """Let the entity go and report for the last time, unless it wants to stay."""
        left = await self._entity.leave(reason)
        if left.stay_s <= 0:
            await self._loop.run_in_executor(None, self._end)
        return left

    async def states(self) -> dict[str, Any] | None:
        """The entity's public attributes, as they travel; None once it has been let go."""
        return self._entity.states()

    def _end(self) -> None:
        self._client.close()
        self._reporter.end()

    def _flush(self) -> None:
        if self._ready:
            # Not waited for: a handler that blocks its own process keeps nobody from counting.
            self._loop.call_soon_threadsafe(self._entity.flush)
            self._client.flush()
