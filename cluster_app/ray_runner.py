"""A runner as a Ray actor: detached, never restarted, one event loop.

Decides nothing about messages. It feeds the pure parts with calls, time and renewals, and lets them answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import pickle
import sys
import threading
import time
from typing import Any

import ray
from ray.exceptions import RayError

from cluster_app import own_modules
from cluster_app.alarm import LoopAlarm
from cluster_app.client import Client
from cluster_app.code import ShippedType, load
from cluster_app.config_text import read_config
from cluster_app.entity_states import living_ids, read_states
from cluster_app.envelope import Codec
from cluster_app.grants import Lease, Renewal
from cluster_app.local import LocalLane
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.ray_annex import RayAnnexes
from cluster_app.ray_calls import COORDINATOR, agent_name, boottime, call, find_actor, here
from cluster_app.ray_inside import connection_inside, offer_inside
from cluster_app.ray_renewals import Renewals
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_transport import RayDirectory, RayTransport, read_request, write_answer
from cluster_app.raylet_watch import end_with_raylet
from cluster_app.runner import Runner
from cluster_app.sigterm import hear_sigterm
from cluster_app.standing import Standing
from entities import response
from entities.declaration import EntityDefinition
from entities.errors import describe
from entities.log_address import carry_addresses
from entities.stall_watch import StallWatch
from observe import tracing, user_instruments
from observe.recorder import Recorder

__all__ = ["RunnerActor"]

logger = logging.getLogger(__name__)

# A runner that has ended in order has nothing to lose: it does not wait longer for Ray's own good-byes.
_EXIT_S = 5.0
# So long have its entities to save what they are when the service ends; the coordinator gives a runner more.
_CLOSE_S = 4.0
# So long has what runs when it must end to finish, and what has not started to reach its senders.
_GRACE_S = 1.0
# Objects made and not yet gone after which the youngest are looked through: as many as some frames of messages make.
_YOUNG_OBJECTS = 20_000
_SWITCH_S = 0.0005
_HOST_S = 20.0


@ray.remote
class RunnerActor:
    """One runner incarnation; its name is its id."""

    def __init__(self, runner_id: str, namespace: str, config: str, standing: Standing) -> None:
        self._runner_id = runner_id
        self._namespace = namespace
        self._config_text = config
        self._config = read_config(config)
        self._standing = standing
        self._runner: Runner
        self._ended = threading.Event()
        self._started: asyncio.Event = asyncio.Event()
        self._departures: list[asyncio.Task[None]] = []
        self._worked = (boottime(), time.process_time())
        self._telling = self._more_to_tell = False
        self._cutting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return self._runner_id

    async def start(self) -> None:
        """Begin to ask for shards, once."""
        loop = self._loop = asyncio.get_running_loop()
        # By its module: Ray pickles this class with its globals, so a name imported here would be a copy of the set.
        response.RUNNER_THREADS.add(threading.get_ident())
        self._be_quick()
        carry_addresses()
        StallWatch(loop, threading.get_ident()).start()
        own_modules.host()
        config, namespace = self._config, self._namespace
        node_id = here()
        recorder = Recorder(enabled=config.metrics)
        codec = Codec(attach=(ray.ObjectRef,))
        neighbourhood = Neighbourhood()
        local = LocalLane(loop, threading.get_ident(), codec)
        self._directory = RayDirectory(namespace, host=self._host)
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
            standing=self._standing,
        )
        self._client = client = Client(
            self._runner_id,
            config,
            RayTransport(namespace),
            self._directory,
            recorder,
            codec,
            boottime,
            LoopAlarm(loop, boottime, lambda: self._client.tick()).at,
            local,
        )
        runner.on_news(self._tell)
        runner.on_departing(lambda: self._departures.append(loop.create_task(self._depart())))
        local.join(client, runner)
        neighbourhood.join(client)
        self._annexes = RayAnnexes(runner, namespace, self._config_text, node_id, codec, neighbourhood)
        runner.host.supervise(self._annexes)
        end_with_raylet()
        # Its end must be seen before it may hold anything: only then is there a proof of its death.
        await self._be_watched(node_id)
        self._reporter = Reporter(namespace, self._runner_id, recorder, self._flush)
        self._reporter.begin()
        # What connect() gives in this process: it sends through the runner's own client.
        offer_inside(namespace, lambda: client, lambda: self._reporter, self._config_text)
        connection_inside(namespace)  # references that arrive here need one
        self._renewals = Renewals(namespace, config.lease_s, self._renewal, self._apply_soon)
        self._renewals.begin()
        self._sweeper = loop.create_task(self._sweep())
        hear_sigterm(self._told_to_end)
        self._started.set()

    @staticmethod
    def _be_quick() -> None:
        """Set this process up for its one purpose: many short-lived messages, and Ray's threads beside the loop."""
        # What Ray and this package made at start is never garbage: looking through it takes long.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
        # An answer leaves by a thread of Ray's, which by default waits 5 ms while the loop runs the next messages.
        sys.setswitchinterval(_SWITCH_S)

    async def _be_watched(self, node_id: str) -> None:
        for _ in range(100):
            agent = find_actor(agent_name(node_id), self._namespace)
            if agent is not None:
                try:
                    await agent.announce.remote(self._runner_id, os.getpid())
                    return
                except RayError:
                    pass
            await asyncio.sleep(0.05)

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
            "entities": dict(self._runner.host.live.counts()),
            "lanes": self._runner.lanes,
            "hot": [dataclasses.astuple(hot) for hot in self._runner.admission.hot.hottest(boottime())],
        }

    async def living_ids(self, entity_type: str) -> list[str]:
        """The ids of the entities of a type that live here."""
        await self._started.wait()
        return living_ids(self._runner.host.live, entity_type)

    async def entity_states(self, entity_type: str, ids: list[str]) -> tuple[int, bytes]:
        """See `read_states`; a control operation, so it is in no count."""
        if boottime() >= self._runner.until:
            await self._runner.opened()  # suspended: no state leaves either
        return await read_states(self._runner.host.live, entity_type, ids)

    async def deactivate(self, entity_type: str, entity_id: str) -> bool | None:
        """See `Runner.deactivate`; a control operation, so no message is counted."""
        await self._started.wait()
        if boottime() >= self._runner.until:
            await self._runner.opened()
        return self._runner.deactivate(entity_type, entity_id)

    async def missing(self, sources: dict[str, str]) -> list[str]:
        """The modules that this process would not import from that very source."""
        return await asyncio.get_running_loop().run_in_executor(None, own_modules.missing, sources)

    async def try_out(self, data: bytes) -> str | None:
        """Load a type's code without hosting it; returns why that fails, or None."""
        loaded = _load(data)[1]
        return loaded if isinstance(loaded, str) else None

    async def learn(self, data: bytes) -> None:
        """Host a type whose code was replaced, or is new."""
        await self._started.wait()
        self._take_in(data)

    async def running(self) -> list[str]:
        """What runs here now; see `Runner.running`."""
        await self._started.wait()
        return self._runner.running()

    async def leave(self) -> None:
        """Have all shards moved elsewhere, and end."""
        await self._started.wait()
        self._runner.leave()

    async def cut_short(self) -> None:
        """End within a second or two, whatever runs here: this process, or all of its node, is about to be ended."""
        await self._started.wait()
        if self._cutting is None:
            self._cutting = self._loop.create_task(self._cut_short())

    async def _cut_short(self) -> None:
        running = self._runner.cut_short()
        if running:
            logger.warning(
                "%s must end; cut short, unless they finish within %g s: %s",
                self._runner_id,
                _GRACE_S,
                ", ".join(running),
            )
        await asyncio.sleep(_GRACE_S)
        if self._ended.is_set():
            return  # all was finished in time, and it ends in order
        self._ended.set()
        self._renewals.end()
        self._end_at_last()
        self._runner.drop()
        self._client.close()
        await self._loop.run_in_executor(None, self._reporter.end)
        os._exit(0)

    def _told_to_end(self, times: int) -> None:
        """SIGTERM has come, by a thread of its own: leave in order, or at the second one at once."""
        if times == 1:
            logger.warning(
                "%s is told to end by SIGTERM: its shards move to other runners, for %g s at most",
                self._runner_id,
                self._config.leave_s,
            )
            self._loop.call_soon_threadsafe(self._runner.leave)
            self._loop.call_soon_threadsafe(
                self._loop.call_later, max(0.0, self._config.leave_s - _GRACE_S), self._cut_short_soon
            )
            return
        self._loop.call_soon_threadsafe(self._cut_short_soon)
        self._end_at_last()  # should a handler block the loop

    def _cut_short_soon(self) -> None:
        self._departures.append(self._loop.create_task(self.cut_short()))

    @staticmethod
    def _end_at_last() -> None:
        overdue = threading.Timer(_EXIT_S, os._exit, (0,))
        overdue.daemon = True
        overdue.start()

    async def _depart(self) -> None:
        """End in order: when every sender has all its answers, and nothing of its own is under way."""
        while not self._runner.parted or self._client.outstanding.by_entity():
            await asyncio.sleep(0.05)
        # Ray lets a process end when the calls it has made are answered: nobody is to hold a question of this one.
        self._client.close()
        await self.stop()
        self._directory.close()
        self._end_at_last()
        # Ends the process as a call that asks for it does; its agent sees the end, and so proves it.
        myself: Any = ray.get_runtime_context().current_actor
        myself.__ray_terminate__.remote()

    async def stop(self) -> None:
        """Let every entity go and report for the last time."""
        await self._started.wait()
        await self._runner.close(_CLOSE_S)
        self._ended.set()
        self._renewals.end()
        await asyncio.get_running_loop().run_in_executor(None, self._reporter.end)

    # -- code

    def _host(self, name: str) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.ensure(name), self._loop).result(_HOST_S)

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

    def _take_in(self, data: bytes) -> EntityDefinition | None:
        name, loaded = _load(data)
        user_instruments.offer()  # their code is here now, and nothing of it has run yet
        tracing.offer()
        if isinstance(loaded, str):
            # Its messages are told; the next one tries again, for the type may be registered anew.
            self._runner.admission.unloadable[name] = loaded
            return None
        if loaded.options.hosting == "actor":
            self._annexes.shipped[loaded.digest] = data  # goes on to the processes of its entities
        self._runner.host.register(loaded)
        return loaded

    # -- the lease

    def _renewal(self) -> Renewal:
        (since, before), self._worked = self._worked, (boottime(), time.process_time())
        busy = (self._worked[1] - before) / max(self._worked[0] - since, 0.001)
        return self._runner.renewal()._replace(busy=busy)

    def _tell(self) -> None:
        """Renew once more at once: the renewal under way does not tell what is news, and may be held for a while."""
        if self._telling:
            self._more_to_tell = True
            return
        coordinator = find_actor(COORDINATOR, self._namespace)
        if coordinator is None:
            return  # the next one hears it by the next renewal
        self._telling, sent_at = True, boottime()

        def told(lease: Any) -> None:
            self._loop.call_soon_threadsafe(self._told, lease, sent_at)

        call(coordinator.renew, self._runner.renewal(), told=told)

    def _told(self, lease: Any, sent_at: float) -> None:
        self._telling = False
        if isinstance(lease, Lease):
            self._apply(lease, sent_at, threading.Event())
        if self._more_to_tell:
            self._more_to_tell = False
            self._tell()

    def _apply_soon(self, lease: Lease, sent_at: float, applied: threading.Event) -> None:
        self._loop.call_soon_threadsafe(self._apply, lease, sent_at, applied)

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


def _load(data: bytes) -> tuple[str, EntityDefinition | str]:
    """A shipped type's name, and its definition or why it cannot be had here."""
    shipped: ShippedType = pickle.loads(data)
    try:
        return shipped.name, load(shipped)
    except Exception as raised:
        why = f"the code of entity type {shipped.name!r} cannot be loaded on a runner: {describe(raised)}"
        logging.getLogger("cluster_app").warning(why, exc_info=raised)
        return shipped.name, why
