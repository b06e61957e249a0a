"""The process of one entity as a Ray actor: owned by a runner, never restarted, one event loop.

Decides nothing about messages: it feeds an `AnnexedEntity` with calls. It is no runner, and counts only what the
entity itself sends and counts; its owner counts the entity's life and messages.

Ray has no class of this name in its listings: each entity type gets a subclass named after it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

from cluster_app import own_modules
from cluster_app.annex_calls import Call, Lent, Reply, Tenancy
from cluster_app.annexed_entity import AnnexedEntity
from cluster_app.arriving import connections
from cluster_app.code import load
from cluster_app.config_text import read_config
from cluster_app.envelope import Codec, Packed
from cluster_app.lent_lease import LentLease
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.process_start import process_start
from cluster_app.ray_calls import boottime, here, readable
from cluster_app.ray_inside import offer_inside
from entities import response
from entities.address import EntityAddress
from entities.errors import ActivationFailed, describe
from entities.log_address import carry_addresses
from observe.recorder import Recorder

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.ray_reporter import Reporter

__all__ = ["EntityActor", "Whereabouts", "read_reply", "write_call"]

_FIRST_REPORT_S = 0.2  # after its start; by then it has usually answered


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


class Whereabouts(NamedTuple):
    """Which process it is: pid and when that was started (see `process_start`), and the node."""

    pid: int
    started: int
    node_id: str


class EntityActor:
    """The process of one entity. Until its owner has had it admitted and says `activate`, it does nothing.

    :param shipped: the entity type's code, pickled.
    """

    def __init__(self, tenancy: Tenancy, namespace: str, config: str, shipped: bytes) -> None:
        self._tenancy = tenancy
        self._namespace = namespace
        self._config = config
        self._shipped = shipped
        self._since = time.time()
        self._reporter: Reporter | None = None
        self._making_reporter = threading.Lock()
        self._loop: asyncio.AbstractEventLoop
        self._loaded: asyncio.Event
        self._lease: LentLease
        self._recorder: Recorder
        self._neighbourhood: Neighbourhood
        self._entity: AnnexedEntity
        self._soon: threading.Timer

    def __repr__(self) -> str:
        return readable(f"{self._tenancy.entity_type}/{self._tenancy.entity_id}")

    async def whereabouts(self) -> Whereabouts:
        """What an agent needs to know to see its end. Its answer 0."""
        loop = self._loop = asyncio.get_running_loop()
        self._loaded = asyncio.Event()
        self._lease = LentLease(loop, boottime, self._go_on)
        self._lease.mark()
        pid = os.getpid()
        return Whereabouts(pid, process_start(pid), here())

    def _load(self) -> None:
        """Have everything at hand but the entity itself; raises what loading its code raises."""
        # By its module: this class may be pickled with its globals, and a name imported here would be a copy.
        response.RUNNER_THREADS.add(threading.get_ident())
        own_modules.host()
        carry_addresses()
        config = read_config(self._config)
        self._recorder = Recorder(enabled=config.metrics)
        # Not after its code is loaded, which may take long: whoever collects the counts waits for every process
        # admitted. Nor at once: it makes calls of its own, and the first message is not to wait for those.
        self._soon = threading.Timer(_FIRST_REPORT_S, lambda: self._reports())
        self._soon.daemon = True
        self._soon.start()
        definition = load(pickle.loads(self._shipped))
        self._offer_telemetry()
        self._neighbourhood = neighbourhood = Neighbourhood(partial(self._make_client, config))
        self._entity = AnnexedEntity(
            self._tenancy,
            definition,
            self._lease,
            self._loop,
            boottime,
            Codec(attach=(ray.ObjectRef,)),
            neighbourhood,
            config.lease_s / 3,
        )
        self._loaded.set()
        connections.append(neighbourhood)  # a reference that the entity itself unpickles leads out by it
        offer_inside(self._namespace, neighbourhood.client, self._reports, self._config)

    @staticmethod
    def _offer_telemetry() -> None:
        """The entity's code is here now, and nothing of it has run yet. What it does not use is not loaded."""
        traced = any(name.startswith("OTEL_") for name in os.environ)
        if traced or "opentelemetry.metrics" in sys.modules:
            from observe import user_instruments

            user_instruments.offer()
        if traced:
            from observe import tracing

            tracing.offer()

    def _make_client(self, config: Any) -> Client:
        # Most such entities send nothing, and what sending takes is a fifth of what a process like this one loads.
        from cluster_app.alarm import LoopAlarm
        from cluster_app.client import Client
        from cluster_app.lent_lease import LentWay
        from cluster_app.ray_transport import RayDirectory, RayTransport

        client = Client(
            self._tenancy.process,
            config,
            RayTransport(self._namespace),
            RayDirectory(self._namespace),
            self._recorder,
            Codec(attach=(ray.ObjectRef,)),
            boottime,
            LoopAlarm(self._loop, boottime, lambda: client.tick()).at,
            LentWay(self._lease, self._loop),
        )
        return client

    def _client(self) -> Client | None:
        """What sends; None while nothing was sent."""
        return self._neighbourhood.joined if self._loaded.is_set() else None

    def _go_on(self) -> None:
        """The lent lease runs again: what waited for it leaves."""
        client = self._client()
        if client is not None:
            client.go_on()

    def _reports(self) -> Reporter:
        """What reports to the agent; begins when first asked for."""
        with self._making_reporter:
            if self._reporter is None:
                self._reporter = self._make_reporter()
                self._reporter.begin()
            return self._reporter

    def _make_reporter(self) -> Reporter:
        from cluster_app.ray_reporter import Reporter
        from observe import user_instruments

        user_instruments.offer()
        process = self._tenancy.process
        return Reporter(self._namespace, process, self._recorder, self._flush, since=self._since)

    # -- calls of its owner

    async def activate(self, lent: Lent, trace: str | None) -> Reply:
        """Load its code and bring the entity to life."""
        try:
            self._load()
        except BaseException as raised:
            tenancy = self._tenancy
            address = EntityAddress(tenancy.entity_type, tenancy.entity_id)
            why = f"its code cannot be loaded in its process: {describe(raised)}"
            failed = ActivationFailed(why, address=address)
            failed.__cause__ = raised
            return Reply(self._lease.mark(), error=Codec().pack_error(failed))
        return await self._entity.activate(lent, trace)

    async def call(self, data: bytes, attachments: list[Any] | None = None) -> Any:
        """Run one message."""
        return _write_reply(await self._entity.call(_read_call(data, attachments)))

    async def cancel(self, number: int) -> None:
        """That message is not wanted any more."""
        self._entity.cancel(number)

    async def news(self, lent: Lent) -> Any:
        """Answer when there is something to say, or when it is time to be lent more."""
        await self._loaded.wait()
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
        client = self._client()
        if client is not None:
            client.close()
        self._soon.cancel()
        with self._making_reporter:
            if self._reporter is None:
                self._reporter = self._make_reporter()
        self._reporter.end()

    def _flush(self) -> None:
        if self._loaded.is_set():
            # Not waited for: a handler that blocks its own process keeps nobody from counting.
            self._loop.call_soon_threadsafe(self._entity.flush)
        client = self._client()
        if client is not None:
            client.flush()
