"""The coordinator asks all runners something, or ends them: one that is silent keeps nobody waiting for long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from ray.exceptions import RayActorError

from cluster_app import ray_coordinator
from cluster_app.ray_coordinator import CoordinatorActor
from cluster_app.stepped_loop import SteppedLoop


class FakeRunner:
    """Answers after so many seconds; None: never. `ended`: its process has."""

    def __init__(self, after_s: float | None = 0.0, *, ended: bool = False) -> None:
        self._after_s = after_s
        self._ended = ended
        self.asked = 0
        self.gone_on = False

    async def answer(self) -> str:
        """The call."""
        self.asked += 1
        if self._ended:
            raise RayActorError
        await (asyncio.Event().wait() if self._after_s is None else asyncio.sleep(self._after_s))
        return f"after {self._after_s}"


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    """Its clock stands until it is moved."""
    loop = SteppedLoop()
    yield loop
    loop.end()


def a_coordinator() -> Any:
    """One that has not begun."""
    actors: Any = CoordinatorActor
    return actors.__ray_metadata__.modified_class("asks", '{"lease_s": 3.0}')


def each(loop: SteppedLoop, runners: list[FakeRunner], within_s: float) -> Any:
    """What the coordinator has been told by then; None: it waits."""
    coordinator = a_coordinator()

    def ask(runner: FakeRunner) -> Coroutine[Any, Any, str]:
        return runner.answer()

    async def asked() -> Any:
        asking = asyncio.ensure_future(coordinator._each(runners, "silent", ask))
        await loop.advance(within_s)
        return asking.result() if asking.done() else None

    return loop.call(asked())


def test_answers_come_in_the_order_of_the_runners(loop: SteppedLoop) -> None:
    """Whoever is first to answer."""
    runners = [FakeRunner(0.2), FakeRunner(0.0), FakeRunner(0.1)]
    assert each(loop, runners, 0.2) == ["after 0.2", "after 0.0", "after 0.1"]


def test_all_are_asked_at_the_same_time_and_none_waits_for_another(loop: SteppedLoop) -> None:
    """A hundred that take as long as they may: that long, and not a hundred times."""
    runners = [FakeRunner(0.4) for _ in range(100)]
    assert each(loop, runners, 0.4) == ["after 0.4"] * 100


def test_one_that_stands_still_or_has_ended_is_answered_for(loop: SteppedLoop) -> None:
    """Each of the others is heard; whoever asks waits for them in the name of a message, so not for long."""
    runners = [FakeRunner(), FakeRunner(None), FakeRunner(ended=True), FakeRunner(30.0), FakeRunner(0.1)]
    assert each(loop, runners, 1.0) == ["after 0.0", "silent", "silent", "silent", "after 0.1"]
    assert [runner.asked for runner in runners] == [1] * 5


def test_nobody_to_ask_is_answered_at_once(loop: SteppedLoop) -> None:
    """A cluster that has no runner yet takes in types all the same."""
    assert each(loop, [], 0.0) == []


def test_all_end_at_the_same_time_and_each_in_any_case(
    loop: SteppedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty that would take a while, one that has ended before, and one that never does: nobody waits for another."""
    runners = {f"runner-{n}": FakeRunner(3.0) for n in range(50)}
    runners |= {"ended": FakeRunner(ended=True), "stuck": FakeRunner(None)}
    killed: list[FakeRunner] = []
    monkeypatch.setattr(ray_coordinator, "find_actor", lambda name, namespace: runners.get(name))
    monkeypatch.setattr("ray.kill", lambda actor, no_restart: killed.append(actor))

    async def end_all() -> tuple[int, int, bool]:
        names = [*runners, "gone"]
        ending = asyncio.ensure_future(a_coordinator()._end_all(names, lambda runner: runner.answer(), 10.0))
        await loop.advance(2.9)
        early = len(killed)
        await loop.advance(0.2)
        soon = len(killed)
        await loop.advance(7.0)
        return early, soon, ending.done()

    assert loop.call(end_all()) == (1, 51, True)
    assert set(killed) == set(runners.values())
