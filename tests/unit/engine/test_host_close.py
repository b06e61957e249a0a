"""How a host ends: what its entities still get done, and for how long it waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from cluster_app.stepped_loop import SteppedClock, SteppedLoop
from entities import Entity, entity, message
from entities.crew import OpenGate
from entities.declaration import define
from entities.delivery import Delivery
from entities.host import EntityHost
from observe.recorder import Recorder

saved: list[str] = []
files_away: list[Callable[[], None]] = []  # what a clerk does when it has counted


@entity(name="close.Clerk", max_idle_time=None)
class Clerk(Entity):
    """Takes a while to save what it is."""

    @message
    async def count(self) -> None:
        await asyncio.sleep(1.0)

    @message
    def stand(self) -> None: ...

    async def on_deactivate(self, reason: str) -> None:
        await asyncio.sleep(0.2)
        saved.append(f"clerk: {reason}")
        for file_away in files_away:
            file_away()


@entity(name="close.Mule", max_idle_time=None)
class Mule(Entity):
    """Never goes by itself."""

    @message
    def stand(self) -> None: ...

    async def on_deactivate(self, reason: str) -> None:
        await asyncio.Event().wait()


class House:
    """One host on a stepped clock."""

    sender = "test"

    def __init__(self) -> None:
        self.loop = SteppedLoop()
        self.clock = SteppedClock(self.loop)
        self.host = self.loop.call(self._make())

    async def _make(self) -> EntityHost:
        host = EntityHost(self.loop, self.loop.time, OpenGate(), Recorder(), None)  # type: ignore[arg-type]  # alone
        for kind in (Clerk, Mule):
            host.register(define(kind))
        return host

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """Nobody waits for it."""

    def take(self, kind: str, entity_id: str, method: str) -> None:
        """Take a message in; on the loop."""
        hosted = self.host.live.hosted(kind)
        assert hosted is not None
        now = self.loop.time()
        living = hosted.live.get(entity_id) or self.host.activator.activate(hosted, entity_id, 0, (1, 1), now)
        delivery = Delivery(self, 0, hosted.messages[method], entity_id, (), float("inf"), now)
        assert self.host.turns.accept(delivery, living) is None

    def send(self, kind: str, method: str = "stand") -> None:
        """Send a message to the one entity of a kind."""
        self.loop.call_soon_threadsafe(self.take, kind, "one", method)
        self.clock.settle()

    def close(self, within_s: float) -> Future[None]:
        """Begin to end it."""
        closing = asyncio.run_coroutine_threadsafe(self.host.close(within_s), self.loop)
        self.clock.settle()
        return closing

    def ended(self, closing: Future[None], *, after_s: float) -> bool:
        """Whether it has ended when so much time has passed."""
        self.clock.advance(after_s)
        return closing.done()


@pytest.fixture
def house() -> Iterator[House]:
    """A host that has no entity yet."""
    saved.clear()
    files_away.clear()
    house = House()
    yield house
    house.loop.end()


def test_a_hook_that_takes_a_while_saves(house: House) -> None:
    """And as soon as the last one has, the host has ended."""
    house.send("close.Clerk")
    closing = house.close(4.0)
    assert not closing.done() and saved == []
    assert house.ended(closing, after_s=0.3)
    assert saved == ["clerk: shutdown"]


def test_a_hook_that_never_ends_holds_nobody_beyond_the_bound(house: House) -> None:
    """It is cancelled then; those beside it have saved."""
    house.send("close.Mule")
    house.send("close.Clerk")
    closing = house.close(4.0)
    assert not house.ended(closing, after_s=3.9)
    assert house.ended(closing, after_s=0.2)
    assert saved == ["clerk: shutdown"]


def test_a_handler_that_runs_is_let_finish_before_the_hook(house: House) -> None:
    """What it has done by then is what there is to save."""
    house.send("close.Clerk", "count")
    closing = house.close(4.0)
    assert not house.ended(closing, after_s=1.0)
    assert house.ended(closing, after_s=0.3)
    assert saved == ["clerk: shutdown"]


def test_what_comes_to_life_for_a_hook_saves_too(house: House) -> None:
    """One hook sends a message, and whom it is for has something to save by then."""

    def file_away() -> None:
        files_away.clear()
        house.take("close.Clerk", "archive", "stand")

    files_away.append(file_away)
    house.send("close.Clerk")
    closing = house.close(4.0)
    assert house.ended(closing, after_s=0.6)
    assert saved == ["clerk: shutdown"] * 2


def test_without_time_those_that_need_none_go_in_order_all_the_same(house: House) -> None:
    """As in memory, where nobody moves the clock while a cluster ends: who waits for it is cancelled."""
    house.send("close.Clerk")
    assert house.close(0.0).result(30) is None
    assert saved == []
