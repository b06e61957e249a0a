"""Entities that several processes of a test send to. Each test has a type of its own, so that counts are exact."""

from __future__ import annotations

import asyncio

from cluster_app import Entity, entity, message


@entity(max_idle_time=None)
class Tally(Entity):
    def __init__(self) -> None:
        self.value = 0

    @message
    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    @message
    async def hang(self) -> None:
        await asyncio.Event().wait()


@entity(max_idle_time=None)
class FloodedTally(Tally):
    """Its driver is killed."""


@entity(max_idle_time=None, mailbox_capacity=100_000)
class UnaffectedTally(Tally):
    """Its driver lives on."""


@entity(max_idle_time=None)
class AbandonedTally(Tally):
    """Its driver is killed while messages wait."""


@entity(max_idle_time=None)
class ToldTally(Tally):
    """Its driver is told to end."""


@entity(max_idle_time=None)
class SummedTally(Tally):
    """Several processes send to it."""

    @message
    async def relay(self, entity_id: str, count: int) -> int:
        tally = self.entity(SummedTally, entity_id)
        return [await tally.add.remote(1) for _ in range(count)][-1]


@entity(max_idle_time=None)
class ShortLivedTally(Tally):
    """A process that ends soon sends to it."""
