"""One coordinator of a memory cluster: a process of its own, as runners see it, that may stand still while another
leads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster_app.config import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.grants import Lease, Renewal
from cluster_app.kv import KeyValue
from cluster_app.routes import Routes
from observe.recorder import Recorder
from observe.traces import Traces

__all__ = ["MemoryCoordinator"]


class MemoryCoordinator(CoordinatorService):
    """A coordinator that can be paused, and killed.

    Paused it looks at no clock and answers nothing; what was asked meanwhile is answered when it goes on, however late.
    """

    def __init__(
        self,
        incarnation: str,
        kv: KeyValue,
        config: ClusterConfig,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        recorder: Recorder,
        traces: Traces,
    ) -> None:
        self._awake = asyncio.Event()
        self._awake.set()
        self._alive = True
        self._tick_missed = False
        super().__init__("memory", incarnation, kv, config, loop, now, recorder, traces)

    def pause(self) -> None:
        """Stand still, as a stopped process does."""
        self._awake.clear()

    def resume(self) -> None:
        """Go on."""
        self._awake.set()
        if self._tick_missed and self._alive:
            self._tick_missed = False
            self._tick()

    @property
    def awake(self) -> bool:
        """Whether it answers."""
        return self._alive and self._awake.is_set()

    def kill(self) -> None:
        """End at once; whoever waits for an answer hears that it is gone."""
        self._alive = False
        self.close()
        self._awake.set()

    def _tick(self) -> None:
        if self._awake.is_set():
            super()._tick()
        else:
            self._timer, self._tick_missed = None, True

    async def _go_on(self) -> None:
        await self._awake.wait()
        if not self._alive:
            raise ConnectionError("the coordinator was killed")

    async def change(self, within_s: float) -> None:
        """See `CoordinatorService.change`."""
        await super().change(within_s)
        await self._go_on()

    async def renew(self, renewal: Renewal) -> Lease:
        """See `CoordinatorService.renew`; raises ConnectionError when it is killed."""
        await self._go_on()
        lease = await super().renew(renewal)
        await self._go_on()
        return lease

    async def routes(self, known_version: int) -> Routes | None:
        """See `CoordinatorService.routes`; raises ConnectionError when it is killed."""
        await self._go_on()
        routes = await super().routes(known_version)
        await self._go_on()
        return routes
