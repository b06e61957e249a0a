"""A runner as a Ray actor: detached, never restarted, one event loop.

Decides nothing about messages. It feeds the pure parts with calls, time and renewals, and lets them answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
import threading
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster_app.client import Client
from cluster_app.code import load, travels_by_value
from cluster_app.config import ClusterConfig
from cluster_app.coordinator import RunnerEnded
from cluster_app.entity_states import living_ids, read_states, read_states_apart
from cluster_app.envelope import Codec
from cluster_app.grants import Lease
from cluster_app.local import LocalLane
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.ray_annex import RayAnnexes
from cluster_app.ray_calls import COORDINATOR, agent_name, boottime, find_actor, here, wait_for
from cluster_app.ray_inside import connection_inside, offer_inside
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_transport import RayDirectory, RayTransport, read_request, write_answer
from cluster_app.runner import Runner
from entities import response
from entities.declaration import EntityDefinition
from entities.log_address import carry_addresses
from entities.stall_watch import StallWatch
from observe.recorder import Recorder

__all__ = ["RunnerActor"]

# After so long without progress of the event loop its runner is given up: a handler blocks for good.
_STALL_S = 30.0


@ray.remote
class RunnerActor:
    """One runner incarnation; its name is its id."""

    def __init__(self, runner_id: str, namespace: str, config: str) -> None:
        self._runner_id = runner_id
        self._namespace = namespace
        self._config = ClusterConfig.model_validate_json(config)
        self._runner: Runner
        self._ended = threading.Event()
        self._started: asyncio.Event = asyncio.Event()

    def __repr__(self) -> str:
        return self._runner_id

    async def start(self) -> None:
        """Begin to ask for shards, once."""
        loop = self._loop = asyncio.get_running_loop()
        # By its module: Ray pickles this class with its globals, so a name imported here would be a copy of the set.
        response.RUNNER_THREADS.add(threading.get_ident())
        carry_addresses()
        StallWatch(loop, threading.get_ident()).start()
        config, namespace = self._config, self._namespace
        node_id = here()
        recorder = Recorder(enabled=config.metrics)
        codec = Codec(attach=(ray.ObjectRef,))
        neighbourhood = Neighbourhood()
        local = LocalLane(loop, threading.get_ident())
        self._directory = RayDirectory(namespace)
        self._runner = runner = Runner(
            self._runner_id,
            node_id,
            os.getpid(),
            config,
            loop,
            boottime,
            recorder,
            codec,
            neighbourhood,
            self._definition,
        )
        self._client = client = Client(
            self._runner_id,
            config,
            RayTransport(namespace),
            self._directory,
            recorder,
            codec,
            boottime,
            self._wake_soon,
            local,
        )
        local.join(client, runner)
        neighbourhood.join(client)
        self._annexes = RayAnnexes(runner, namespace, config, node_id, codec, neighbourhood)
        runner.host.supervise(self._annexes)
        # Its end must be seen before it may hold anything: only then is there a proof of its death.
        await self._be_watched(node_id)
        self._reporter = Reporter(namespace, self._runner_id, recorder, self._flush)
        # What connect() gives in this process: it sends through the runner's own client.
        offer_inside(namespace, client, self._reporter, config.model_dump_json())
        connection_inside(namespace)  # references that arrive here need one
        threading.Thread(target=self._renew, name="cluster-app-renewals", daemon=True).start()
        self._sweeper = loop.create_task(self._sweep())
        self._started.set()

    async def _be_watched(self, node_id: str) -> None:
        for _ in range(100):
            agent = find_actor(agent_name(node_id), self._namespace)
            if agent is not None:
                try:
                    await agent.watch.remote(self._runner_id, os.getpid())
                    return
                except RayError:
                    pass
            await asyncio.sleep(0.05)

    def _wake_soon(self, when: float) -> None:
        self._loop.call_soon_threadsafe(self._wake_at, when)

    def _wake_at(self, when: float) -> None:
        self._loop.call_later(max(0.0, when - boottime()), self._client.tick)

    # -- calls

    async def exchange(self, data: bytes, attachments: list[Any] | None = None) -> Any:
        """One exchange of a lane."""
        if not self._started.is_set():
            await self._started.wait()
        return write_answer(await self._runner.exchange(read_request(data, attachments)))

    async def state(self) -> dict[str, Any]:
        """What `status()` shows of it."""
        await self._started.wait()
        return {
            "pid": os.getpid(),
            "entities": dict(self._runner.host.live()),
            "lanes": self._runner.lanes,
            "hot": [dataclasses.astuple(hot) for hot in self._runner.hot.hottest(boottime())],
        }

    async def living_ids(self, entity_type: str) -> list[str]:
        """The ids of the entities of a type that live here."""
        await self._started.wait()
        return living_ids(self._runner.host, entity_type)

    async def entity_states(self, entity_type: str, ids: list[str]) -> tuple[int, bytes]:
        """See `read_states`; a control operation, so it is in no count."""
        if boottime() >= self._runner.until:
            await self._runner.opened()  # suspended: no state leaves either
        hosted = self._runner.host.hosted(entity_type)
        if hosted is not None and hosted.apart:
            return await read_states_apart(self._runner.host, entity_type, ids)
        return read_states(self._runner.host, entity_type, ids)

    async def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """See `Runner.deactivate`; a control operation, so no message is counted."""
        await self._started.wait()
        if boottime() >= self._runner.until:
            await self._runner.opened()
        return self._runner.deactivate(entity_type, entity_id)

    async def learn(self, data: bytes) -> None:
        """Host a type whose code was replaced, or is new."""
        await self._started.wait()
        self._take_in(data)

    async def stop(self) -> None:
        """Let every entity go and report for the last time."""
        await self._started.wait()
        await self._runner.close()
        self._ended.set()
        await asyncio.get_running_loop().run_in_executor(None, self._reporter.end)

    # -- code

    async def _definition(self, name: str) -> EntityDefinition | None:
        for _ in range(50):
            try:
                coordinator = find_actor(COORDINATOR, self._namespace)
                if coordinator is not None:
                    data = await coordinator.shipped.remote(name)
                    return self._take_in(data) if data is not None else None
            except RayError:
                pass  # the coordinator is away; another one comes
            await asyncio.sleep(0.1)
        return None

    def _take_in(self, data: bytes) -> EntityDefinition:
        shipped = pickle.loads(data)
        definition = load(shipped)
        if shipped.by_value:
            travels_by_value(shipped.module)
        if definition.options.hosting == "actor":
            self._annexes.shipped[definition.digest] = data  # goes on to the processes of its entities
        self._runner.host.register(definition)
        return definition

    # -- the lease

    def _renew(self) -> None:
        coordinator: Any = None
        applied = threading.Event()
        applied.set()
        stalled_since = boottime()
        while not self._ended.is_set():
            if applied.is_set():
                stalled_since = boottime()
            elif boottime() - stalled_since > _STALL_S:
                self._ended.wait(0.1)
                continue
            sent_at = boottime()
            try:
                coordinator = coordinator or find_actor(COORDINATOR, self._namespace)
                if coordinator is None:
                    self._ended.wait(0.05)
                    continue
                lease = wait_for(coordinator.renew.remote(self._runner.renewal()), self._config.lease_s)
            except RayTaskError as error:
                if isinstance(error.cause, RunnerEnded):
                    os._exit(
                        1
                    )  # proven dead, so others may serve its shards: nothing may leave here any more
                coordinator = None
                self._ended.wait(0.05)
                continue
            except Exception:
                coordinator = None
                self._ended.wait(0.05)
                continue
            applied = threading.Event()
            self._loop.call_soon_threadsafe(self._apply, lease, sent_at, applied)
            applied.wait(self._config.lease_s / 4)

    def _apply(self, lease: Lease, sent_at: float, applied: threading.Event) -> None:
        self._runner.apply(lease, sent_at)
        self._client.term = self._runner.tenure.term
        applied.set()
        self._client.go_on()  # what waited for the lease leaves now

    async def _sweep(self) -> None:
        while not self._ended.is_set():
            await asyncio.sleep(1.0)
            self._runner.sweep()

    # -- counts

    def _flush(self) -> None:
        async def flush() -> None:
            self._runner.flush()
            self._client.flush()

        if threading.get_ident() in response.RUNNER_THREADS:
            self._runner.flush()
            self._client.flush()
        else:
            asyncio.run_coroutine_threadsafe(flush(), self._loop).result(1.0)
