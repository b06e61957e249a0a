"""Tells the coordinator which runners have ended, as their own node has seen it.

Decides how often: until the coordinator has heard it, for a proof that is lost costs a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ray.exceptions import RayError

from cluster_app.ray_calls import COORDINATOR, find_actor

__all__ = ["Witness"]

_FIRST_PAUSE_S = 0.1  # longer than a coordinator takes that lives
_MOST_PAUSE_S = 1.0
_ANSWERS_WITHIN_S = 2.0  # one that stands still may have a successor by then


class Witness:
    """One node's word to the coordinator of a namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._coordinator: Any = None
        self._preparing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Have the coordinator at hand: to find it and call it for the first time takes longer than a failover may."""
        if self._preparing is None:
            self._preparing = asyncio.get_running_loop().create_task(self._prepare())

    async def _prepare(self) -> None:
        with contextlib.suppress(RayError, TimeoutError):
            await self._ask("hello")

    async def tell(self, runner_id: str) -> None:
        """That runner's process has ended. Returns when a coordinator has heard it.

        Tells it again beside what is under way: a call on its way to a coordinator that was killed just then is lost,
        and Ray says so up to two seconds later; one made a moment after waits for the next coordinator and no longer.
        """
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        telling: set[asyncio.Task[None]] = set()
        pause_s = _FIRST_PAUSE_S
        try:
            while not heard.done():
                task = asyncio.ensure_future(self._tell(runner_id, heard))
                telling.add(task)
                task.add_done_callback(telling.discard)
                await asyncio.wait([heard], timeout=pause_s)
                pause_s = min(_MOST_PAUSE_S, 1.5 * pause_s)
        finally:
            for task in telling:
                task.cancel()

    async def _tell(self, runner_id: str, heard: asyncio.Future[None]) -> None:
        try:
            if await self._ask("proven_dead", runner_id) and not heard.done():
                heard.set_result(None)
        except (RayError, TimeoutError):
            self._coordinator = None  # it is away, or stands still; the next one must hear it

    async def _ask(self, method: str, *args: Any) -> bool:
        """Whether there is a coordinator, which has answered."""
        coordinator = self._coordinator
        if coordinator is None:
            coordinator = await asyncio.to_thread(find_actor, COORDINATOR, self._namespace)
            if coordinator is None:
                return False
            self._coordinator = coordinator
        await asyncio.wait_for(getattr(coordinator, method).remote(*args), _ANSWERS_WITHIN_S)
        return True
