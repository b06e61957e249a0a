"""The entities of a run, and who asks them what. Decides the mix of messages."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, NamedTuple

from cluster_app import ClusterError, entity, message
from cluster_app.singletons import SINGLETON_ID
from tests.chaos import processes
from tests.chaos.recorded_entity import RecordedEntity, Teller
from tests.chaos.sender import Sender

__all__ = ["BROADCASTS", "MIX", "SINGLETONS", "Ask", "asked", "broadcast"]

_sender: Sender | None = None

_IDS = {"Account": 24, "Hub": 8, "Leaf": 16, "Brief": 24, "Apart": 1}


def _sends() -> Sender:
    """What the entities of this process send with."""
    global _sender
    if _sender is None:
        _sender = Sender(processes.scribe_name(), processes.scribe())
    return _sender


class Recorded(RecordedEntity):
    """Recorded by whoever records its process."""

    def __init__(self) -> None:
        self.record(processes.scribe(), processes.scribe_name(), processes.runner_here())


@entity(max_idle_time=60.0)
class Account(Recorded, Teller):
    """Lives long; asked for everything that one entity does by itself."""

    @message(idempotent=True)
    async def study(self, token: str, seconds: float) -> str:
        self.began(token)
        await asyncio.sleep(seconds / 2)
        await asyncio.sleep(seconds / 2)
        return self.done(token)

    @message(blocking=True)
    def file(self, token: str, seconds: float) -> str:
        self.began(token)
        return self.done(token)

    @message
    def refuse(self, token: str) -> str:
        self.began(token)
        raise LookupError("as it was asked to")


@entity(max_idle_time=60.0)
class Leaf(Recorded):
    """Asked by hubs."""

    @message
    async def add(self, token: str) -> str:
        self.began(token)
        await asyncio.sleep(0.02)
        return self.done(token)

    @message(idempotent=True)
    def look(self, token: str) -> str:
        self.began(token)
        return self.done(token)


@entity(max_idle_time=60.0, concurrency=4)
class Hub(Recorded):
    """Asks leaves."""

    @message
    async def relay(self, token: str, leaf: str) -> str:
        self.began(token)
        with contextlib.suppress(ClusterError):  # the leaf's message has its own fate
            await _sends().send(self.entity(Leaf, leaf), "add")
        return self.done(token)

    @message(idempotent=True)
    async def survey(self, token: str, leaves: list[str]) -> str:
        self.began(token)
        replies = [_sends().send(self.entity(Leaf, leaf), "look") for leaf in leaves]
        for reply in replies:
            with contextlib.suppress(ClusterError):
                await reply
        return self.done(token)


@entity(max_idle_time=0.3)
class Brief(Recorded):
    """Goes as soon as nobody asks."""

    async def on_activate(self) -> None:
        await asyncio.sleep(0.01)

    @message
    def add(self, token: str) -> str:
        self.began(token)
        return self.done(token)

    @message
    def leave(self, token: str) -> str:
        self.began(token)
        self.deactivate()
        return self.done(token)


# One process takes what is sent to all: it studies more than one second a second, so it does several things at a time.
@entity(hosting="actor", max_idle_time=60.0, concurrency=16)
class Apart(Recorded):
    """Has a process of its own."""

    @message
    async def add(self, token: str) -> str:
        self.began(token)
        return self.done(token)

    @message(idempotent=True)
    async def study(self, token: str, seconds: float) -> str:
        self.began(token)
        await asyncio.sleep(seconds)
        return self.done(token)


@entity()
class Clock(Recorded):
    """The cluster keeps one, with nobody asking for it."""

    @message(idempotent=True)
    def read(self, token: str) -> str:
        self.began(token)
        return self.done(token)


@entity()
class Calendar(Clock):
    """Kept as well: in a shard of its own, so likely on another runner."""


@entity()
class Almanac(Clock):
    """And a third."""


SINGLETONS = (Clock, Calendar, Almanac)


class Ask(NamedTuple):
    """One message to be sent; `timeout_s` None means the default."""

    type: type[Recorded]
    id: str
    method: str
    args: tuple[Any, ...] = ()
    timeout_s: float | None = None


# Shares of 1000, and what follows the token.
MIX: dict[tuple[type[Recorded], str], int] = {
    (Account, "add"): 230,
    (Account, "look"): 170,
    (Account, "work"): 60,
    (Account, "study"): 60,
    (Account, "file"): 30,
    (Account, "refuse"): 10,
    (Hub, "relay"): 110,
    (Hub, "survey"): 60,
    (Brief, "add"): 160,
    (Brief, "leave"): 20,
    (Clock, "read"): 30,
    (Calendar, "read"): 20,
    (Almanac, "read"): 20,
    (Apart, "add"): 40,
    (Apart, "study"): 30,
}


# What is sent to all that live, now and then: of each round of messages, that share of a thousand.
BROADCASTS: dict[tuple[type[Recorded], str], int] = {
    (Account, "add"): 16,
    (Account, "look"): 12,
    (Brief, "add"): 12,
    (Apart, "add"): 12,
}


def broadcast(chance: random.Random) -> tuple[type[Recorded], str] | None:
    """The type and the method of a broadcast; mostly None."""
    return chance.choices([*BROADCASTS, None], [*BROADCASTS.values(), 1000 - sum(BROADCASTS.values())])[0]


def asked(chance: random.Random) -> Ask:
    """One message of the mix."""
    (kind, method) = chance.choices(list(MIX), weights=list(MIX.values()))[0]
    name = SINGLETON_ID if kind in SINGLETONS else str(chance.randrange(_IDS[kind.__name__]))
    args: tuple[Any, ...] = ()
    if method in ("work", "study", "file"):
        args = (round(chance.uniform(0.05, 0.5), 3),)
    elif method == "relay":
        args = (str(chance.randrange(_IDS["Leaf"])),)
    elif method == "survey":
        args = ([str(chance.randrange(_IDS["Leaf"])) for _ in range(3)],)
    timeout_s = round(chance.uniform(0.2, 1.5), 2) if chance.random() < 0.05 else None
    return Ask(kind, name, method, args, timeout_s)
