"""The entities of random schedules in memory: they write down their life and what they handle."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cluster_app import ClusterError, Entity, entity, message
from tests.chaos.memory_record import current_record, process_of

__all__ = ["TYPES", "Apart", "Careful", "Target"]


class Witness(Entity):
    """Says of itself what the record has to know; its replies tell which of its lives gave them."""

    def __init__(self) -> None:
        self.handled = 0
        self.name = current_record().activated(self)
        self.process = process_of(self)

    def note(self, e: str, **keys: object) -> None:
        """An event of this activation."""
        current_record().note(e, self.process, activation=self.name, **keys)

    async def on_deactivate(self, reason: str) -> None:
        self.note("deactivated", reason=reason)

    def begin(self, token: str) -> None:
        """The first line of every handler."""
        self.note("began", token=token)

    def end(self, token: str) -> str:
        """The last line of every handler."""
        self.handled += 1
        value = f"{self.name}:{self.handled}"
        self.note("done", token=token, value=value)
        return value

    @message
    def hit(self, token: str) -> str:
        self.begin(token)
        return self.end(token)

    @message(idempotent=True)
    def hit_safely(self, token: str) -> str:
        self.begin(token)
        return self.end(token)

    @message
    async def hold(self, token: str, seconds: float) -> str:
        self.begin(token)
        await asyncio.sleep(seconds)
        return self.end(token)

    @message(idempotent=True)
    async def hold_safely(self, token: str, seconds: float) -> str:
        self.begin(token)
        await asyncio.sleep(seconds)
        return self.end(token)

    @message
    async def pass_on(self, token: str, other: str, method: str) -> str:
        """Sends a message on and waits for its end; what becomes of it is not this message's business."""
        self.begin(token)
        with suppress(ClusterError):
            await current_record().send(self.process, self.entity(Target, other), method)
        return self.end(token)

    @message
    def leave(self, token: str) -> str:
        self.begin(token)
        self.deactivate()
        return self.end(token)


@entity(name="schedule.Target", max_idle_time=3.0)
class Target(Witness):
    """Lives in a runner, and goes after a while."""


@entity(name="schedule.Careful", max_idle_time=1.0)
class Careful(Witness):
    """Takes its time to come and to go."""

    async def on_activate(self) -> None:
        await asyncio.sleep(0.05)

    async def on_deactivate(self, reason: str) -> None:
        await super().on_deactivate(reason)
        if not current_record().over:  # nobody moves the clock then
            await asyncio.sleep(0.05)


@entity(name="schedule.Apart", hosting="actor", max_idle_time=3.0)
class Apart(Witness):
    """Has a process of its own."""


TYPES: tuple[type[Witness], ...] = (Target, Careful, Apart)
