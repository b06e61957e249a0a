"""Room to send: whether one more message to an entity would be refused as full, as far as this sender is concerned.

Decides by counting this sender's own unanswered messages. Exact counts by entity cost a pass over the lane, so they
are only taken when the lane as a whole holds more than one mailbox would.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from cluster_app.client import Client
from cluster_app.reference import OutgoingMessage

if TYPE_CHECKING:
    from cluster_app.reference import Reference

__all__ = ["Room"]

_MOVING = 2  # messages that another thread may just be carrying from one queue to the next, and nobody counts
_MOST_BOUNDS = 100_000


class Room:
    """What one sender has outstanding, seen from `ready`."""

    def __init__(self, client: Client, max_in_flight: int) -> None:
        self._client = client
        self._most = max_in_flight
        self._lock = threading.Lock()
        self._waiters: list[threading.Event | asyncio.Future[None]] = []
        # Upper bounds: what a count said, plus one for every message let through since. None: not counted yet.
        self._bounds: dict[tuple[str, str], int] | None = None
        client.room_listeners.append(self._answers_came)

    def wait(self, reference: Reference) -> None:
        """Block until there is room."""
        route = _any_message(reference)
        while not self._has(route):
            answered = threading.Event()
            with self._lock:
                self._waiters.append(answered)
            if not self._has(route, recount=True):
                self._client.hurry()
                answered.wait(1.0)

    async def ready(self, reference: Reference) -> None:
        """Wait until there is room."""
        route = _any_message(reference)
        while not self._has(route):
            answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with self._lock:
                self._waiters.append(answered)
            if not self._has(route, recount=True):
                self._client.hurry()
                await asyncio.wait([answered], timeout=1.0)

    def _has(self, route: OutgoingMessage, recount: bool = False) -> bool:
        client = self._client
        load = client.outstanding.towards(route)
        if load + _MOVING >= self._most:
            client.pump()
            if client.outstanding.towards(route, exactly=True) >= self._most:
                return False
        capacity = route.kind.of.definition.options.mailbox_capacity
        key = (route.kind.names[0], route.entity_id)
        spacious = load + _MOVING < capacity
        with self._lock:
            bounds = self._bounds
            if bounds is None and spacious:
                return True
            if bounds is None or (not spacious and (recount or bounds.get(key, 0) >= capacity)):
                bounds = self._bounds = client.outstanding.by_entity()
            bound = bounds.get(key, 0)
            if bound >= capacity and not spacious:
                return False
            bounds[key] = bound + 1
            if len(bounds) > _MOST_BOUNDS:
                self._bounds = None
            return True

    def _answers_came(self) -> None:
        if not self._waiters:
            return
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if isinstance(waiter, threading.Event):
                waiter.set()
            else:
                try:
                    waiter.get_loop().call_soon_threadsafe(_done, waiter)
                except RuntimeError:
                    continue  # that loop is closed, so nobody waits there


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _any_message(reference: Reference) -> OutgoingMessage:
    definition = reference._definition
    if not definition.messages:
        raise TypeError(f"{definition.name} declares no message, so there is nothing to be ready for")
    name = next(iter(definition.messages))
    return reference.__dict__.get(name) or reference.__getattr__(name)
