"""An agent's word that a process has ended: told until a coordinator has heard it, on the stepped clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from ray.exceptions import RayActorError

from cluster_app import ray_witness
from cluster_app.ray_calls import COORDINATOR
from cluster_app.ray_witness import Witness
from cluster_app.stepped_loop import SteppedLoop

LONG_S = 60.0


class Call:
    """A method of an actor."""

    def __init__(self, ask: Callable[..., Awaitable[None]]) -> None:
        self.remote = ask


class FakeCoordinator:
    """Fails so often, or for ever stands still; then it hears.

    :ivar heard: whose end it was told.
    """

    def __init__(self, failures: int = 0, *, stands_still: bool = False) -> None:
        self.heard: list[str] = []
        self.asked = 0
        self._failures = failures
        self._stands_still = stands_still
        self.hello = Call(self._ask)
        self.proven_dead = Call(self._ask)

    async def _ask(self, *told: str) -> None:
        self.asked += 1
        if self._stands_still:
            await asyncio.Event().wait()
        if self._failures:
            self._failures -= 1
            raise RayActorError
        self.heard += told


class Names:
    """Whom the name of the coordinator leads to, one after the other; the last one stays.

    :ivar looked: how often it was looked up.
    """

    def __init__(self, loop: SteppedLoop, *coordinators: FakeCoordinator | None) -> None:
        self.loop = loop
        self.looked = 0
        self._coordinators = list(coordinators)

    def find(self, name: str, namespace: str) -> FakeCoordinator | None:
        """As `ray_calls.find_actor`."""
        assert (name, namespace) == (COORDINATOR, "spaces")
        self.looked += 1
        return self._coordinators.pop(0) if len(self._coordinators) > 1 else self._coordinators[0]

    def tell(self) -> bool:
        """A process of this node has ended; whether that was heard after a while."""

        async def told() -> bool:
            telling = asyncio.ensure_future(Witness("spaces").tell("runner-1"))
            await self.loop.advance(LONG_S)
            over = telling.done()
            telling.cancel()
            return over

        return self.loop.call(told())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Names]]:
    """To be called with whom the name leads to."""
    loop = SteppedLoop()

    async def at_once(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(
        asyncio, "to_thread", at_once
    )  # a thread's answer would come at no time of this clock

    def of(*coordinators: FakeCoordinator | None) -> Names:
        found = Names(loop, *coordinators)
        monkeypatch.setattr(ray_witness, "find_actor", found.find)
        return found

    yield of
    loop.end()


def test_a_coordinator_that_hears_it_is_told_once(names: Callable[..., Names]) -> None:
    """That is all that there is to do."""
    coordinator = FakeCoordinator()
    assert names(coordinator).tell()
    assert coordinator.heard == ["runner-1"]


def test_it_is_told_again_until_it_is_heard(names: Callable[..., Names]) -> None:
    """Calls fail while the coordinator restarts under its name."""
    coordinator = FakeCoordinator(failures=7)
    assert names(coordinator).tell()
    assert coordinator.heard == ["runner-1"]


def test_a_coordinator_that_is_not_there_yet_is_waited_for(names: Callable[..., Names]) -> None:
    """Its name leads nowhere at first."""
    coordinator = FakeCoordinator()
    assert names(None, None, None, coordinator).tell()
    assert coordinator.heard == ["runner-1"]


def test_the_successor_of_one_that_failed_is_found_and_told(names: Callable[..., Names]) -> None:
    """The name leads to another actor by then."""
    first, second = FakeCoordinator(failures=1000), FakeCoordinator()
    assert names(first, second).tell()
    assert (first.heard, second.heard) == ([], ["runner-1"])


def test_the_successor_of_one_that_stands_still_is_found_and_told(names: Callable[..., Names]) -> None:
    """That one may hear it too, once it wakes: to be told twice does no harm."""
    first, second = FakeCoordinator(stands_still=True), FakeCoordinator()
    assert names(first, second).tell()
    assert first.asked
    assert second.heard == ["runner-1"]


def test_nobody_gives_up_who_has_something_to_tell(names: Callable[..., Names]) -> None:
    """It goes on as long as nobody hears it, and not in a rush."""
    coordinator = FakeCoordinator(failures=1_000_000)
    assert not names(coordinator).tell()
    assert LONG_S / 3 < coordinator.asked < 10 * LONG_S


def prepared(names: Names) -> int:
    """Prepare a witness, and tell it later that a process has ended; how often it looked for the coordinator then."""

    async def main() -> int:
        witness = Witness("spaces")
        witness.prepare()
        await names.loop.advance(LONG_S)
        before = names.looked
        telling = asyncio.ensure_future(witness.tell("runner-1"))
        await names.loop.advance(LONG_S)
        assert telling.done()
        return names.looked - before

    return names.loop.call(main())


def test_one_that_is_prepared_has_the_coordinator_at_hand(names: Callable[..., Names]) -> None:
    """To look for it takes longer than a failover may."""
    coordinator = FakeCoordinator()
    assert prepared(names(coordinator)) == 0
    assert coordinator.heard == ["runner-1"]


@pytest.mark.parametrize(
    "first",
    [None, FakeCoordinator(failures=1000), FakeCoordinator(stands_still=True)],
    ids=["not there", "failing", "standing still"],
)
def test_to_prepare_in_vain_does_no_harm(names: Callable[..., Names], first: FakeCoordinator | None) -> None:
    """Whoever is there later is found."""
    later = FakeCoordinator()
    prepared(names(first, later))
    assert later.heard == ["runner-1"]
