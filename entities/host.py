"""Hosts entities: the parts of it, and what an entity may ask of it.

Decides on which thread things happen: an entity asks from any, all else is done on one event loop. Does not know where
messages come from (an `Answerable` does), nor who may host what (the runner asks that before it calls).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from entities.activation import Activation, HostedType
from entities.activator import Activator
from entities.annex import Annexes
from entities.answers import unstarted
from entities.crew import Gate
from entities.deactivator import Deactivator
from entities.declaration import EntityDefinition
from entities.handler_threads import HandlerThreads
from entities.idle import IdleWatch
from entities.live_table import LiveTable
from entities.slow_handlers import SlowHandlers
from entities.supervision import Supervision
from entities.timers import Timers, check_timer
from entities.turns import Turns
from observe.recorder import Recorder

__all__ = ["EntityHost", "Neighbours"]

_TURNS = 1000  # of the loop: enough for all that need no time, and cheap
_LOOK_S = 0.05


class Neighbours(Protocol):
    """The rest of the cluster, as an entity sees it."""

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference to another entity."""
        ...


class EntityHost:
    """The entities of one runner.

    :param now: the clock, in seconds; timers use the loop, whose clock must be the same.
    :param blocking_threads: how many blocking handlers run at a time.
    :ivar live: who lives here.
    :ivar turns: their messages; `crew` runs these, and `threads` those that block.
    :ivar activator, deactivator: how they come and go; `supervision`, where they have processes of their own.
    :ivar slow: those that hold the loop.
    """

    supervision: Supervision

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        gate: Gate,
        recorder: Recorder,
        neighbours: Neighbours,
        blocking_threads: int = 16,
    ) -> None:
        self.now = now
        self.neighbours = neighbours
        self._loop = loop
        self._recorder = recorder
        self.slow = SlowHandlers(recorder)
        self.live = LiveTable(now, recorder)
        self.activations = self.live.activations  # schedules of faults look at these
        self.turns = Turns(
            now,
            gate,
            lambda activation: self.deactivator.deactivate(activation),
            lambda delivery, lost: self.supervision.again(delivery, lost),
            self.slow.stepped,
        )
        self.crew = self.turns.crew
        self.threads = HandlerThreads(blocking_threads, loop, now, gate, lambda: self.crew.stopped)
        self._idle = IdleWatch(loop, now, lambda activation: self.deactivator.let_go(activation, "idle"))
        self._timers = Timers(loop, self._idle)
        self.activator = Activator(self.live, self.turns, self._idle, now)
        self.deactivator = Deactivator(self.live, self.turns, self.activator, self._idle, now)

    def supervise(self, annexes: Annexes) -> None:
        """Say where entities with a process of their own get it."""
        self.supervision = Supervision(
            self.live, self.turns, self.activator, self.deactivator, annexes, self.now, self._recorder
        )
        self.activator.supervision = self.deactivator.supervision = self.supervision

    def register(self, definition: EntityDefinition) -> None:
        """Host this type; the same name with other code takes over for new activations."""
        known = self.live.hosted(definition.name)
        if known is None or known.definition.digest != definition.digest:
            self.live.add(HostedType(self, definition))

    # -- what an entity asks, from the loop or from the thread of a blocking handler

    def let_go(self, activation: Activation, reason: str) -> None:
        """Let an entity go as soon as nothing runs in it; what waits meets a new activation, in order."""
        if self._on_loop():
            self.deactivator.let_go(activation, reason)
        else:  # before the loop hears that the handler has ended
            self._loop.call_soon_threadsafe(self.deactivator.let_go, activation, reason)

    def repeat(self, activation: Activation, seconds: float, method: str) -> None:
        """Send an entity its own message every `seconds` for as long as this activation lives."""
        check_timer(activation, seconds, method)
        reference = self.neighbours.entity(activation.hosted.definition.cls, activation.entity_id)
        start = partial(
            self._timers.start, activation, seconds, lambda: getattr(reference, method).of_timer().remote()
        )
        if self._on_loop():
            start()
        else:
            self._loop.call_soon_threadsafe(start)

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # -- the end

    async def close(self, within_s: float = 0.0) -> None:
        """Let every entity go with reason shutdown, then stop.

        :param within_s: seconds for handlers that run, hooks that save, and processes that end. What has not ended by
            then is cancelled.
        """
        for activation in self.live.of_shards(lambda group, shard: True):
            for delivery in activation.empty():
                delivery.origin.answer(delivery, None, unstarted(delivery, "the runner shuts down"))
            self.deactivator.let_go(activation, "shutdown")
        until = self.now() + within_s
        for _ in range(_TURNS):
            if not self._lives():
                break
            await asyncio.sleep(0)
        while self._lives() and self.now() < until:
            # A hook may save by messages: whoever comes to life for them may have to save as well.
            for activation in self.live.of_shards(lambda group, shard: True):
                if activation.reason != "shutdown":
                    self.deactivator.let_go(activation, "shutdown")
            await asyncio.sleep(_LOOK_S)
        self.stop()

    def _lives(self) -> bool:
        return any(hosted.live for hosted in self.live)

    def stop(self) -> None:
        """Start nothing more, and cancel what runs; a thread that is in a handler ends with it."""
        self._idle.end()
        self.crew.stop()
        self.threads.end()
