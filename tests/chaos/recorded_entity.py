"""Entities that write down their lives, and each handler's beginning and end.

Decides the form of that. Every reply is made here and now, so that one that was made up is found out.
"""

from __future__ import annotations

import asyncio
import itertools

from cluster_app import Entity, message
from tests.chaos.history import Scribe

__all__ = ["RecordedEntity", "Teller"]

_numbers = itertools.count()


class RecordedEntity(Entity):
    """An entity whose life is recorded. Its `__init__` calls `record`."""

    def record(self, scribe: Scribe, process: str, runner: str) -> None:
        """It comes to life in that process, under the lease of that runner, which may be another process."""
        self.scribe = scribe
        self.made = 0
        self.activation = f"{process}!{next(_numbers)}"
        scribe.note(
            "activated",
            activation=self.activation,
            type=self.address.type,
            id=self.address.id,
            runner=runner,
            epoch=list(self.epoch),
            hosting="shard" if runner == process else "actor",
        )

    async def on_deactivate(self, reason: str) -> None:
        self.scribe.note("deactivated", activation=self.activation, reason=reason)

    def began(self, token: str) -> None:
        """A handler's first statement."""
        self.scribe.note("began", activation=self.activation, token=token)

    def done(self, token: str) -> str:
        """A handler's last statement: what it returns."""
        self.made += 1
        value = f"{self.activation}#{self.made}"
        self.scribe.note("done", activation=self.activation, token=token, value=value)
        return value


class Teller(RecordedEntity):
    """Asked for what does and does not bear to be run twice, and for what takes its time."""

    @message
    def add(self, token: str) -> str:
        self.began(token)
        return self.done(token)

    @message(idempotent=True)
    def look(self, token: str) -> str:
        self.began(token)
        return self.done(token)

    @message
    async def work(self, token: str, seconds: float) -> str:
        self.began(token)
        await asyncio.sleep(seconds)
        return self.done(token)
