"""The crew: which task runs a handler, in which context, and when it may."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from entities.crew import Crew, OpenGate
from entities.delivery import Delivery

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("MARK", default="blank")


class Gate:
    """A gate in the test's hands."""

    def __init__(self) -> None:
        self.until = float("inf")
        self.waiting: list[asyncio.Future[None]] = []

    def opened(self) -> asyncio.Future[None]:
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    def open(self) -> None:
        self.until = float("inf")
        for future in self.waiting:
            if not future.done():
                future.set_result(None)


class Stage:
    """A crew and what became of its messages."""

    def __init__(self, gate: Any = None) -> None:
        self.finished: list[Any] = []
        self.refused: list[Delivery] = []
        self.crew = Crew(
            lambda: 0.0, gate or OpenGate(), self._finish, lambda job, _: self.refused.append(job)
        )

    def _finish(self, job: Delivery, value: Any, error: BaseException | None, *_: float) -> None:
        self.finished.append(value if error is None else type(error))

    def start(self, function: Callable[..., Any]) -> Delivery:
        message = SimpleNamespace(
            function=function, is_async=asyncio.iscoroutinefunction(function), on_thread=False
        )
        job = Delivery(cast(Any, None), 0, cast(Any, message), "x", (), 1.0, 0.0)
        job.activation = cast(Any, SimpleNamespace(entity=None))
        self.crew.start(job)
        return job


async def turns(count: int = 10) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_handlers_that_never_wait_share_one_task() -> None:
    """A hundred messages, one task, in order."""

    async def main() -> None:
        stage, tasks = Stage(), set[Any]()

        async def handler(_: Any) -> None:
            tasks.add(asyncio.current_task())

        for _ in range(100):
            stage.start(handler)
        await turns()
        assert len(stage.finished) == 100 and len(tasks) == 1

    asyncio.run(main())


def test_the_first_step_runs_on_the_task_that_finishes() -> None:
    """So a timeout entered in the first step cancels this handler and no other."""

    async def main() -> None:
        stage = Stage()

        async def waits(_: Any) -> str:
            before = asyncio.current_task()
            try:
                async with asyncio.timeout(0):
                    await asyncio.get_running_loop().create_future()
            except TimeoutError:
                pass
            async with asyncio.TaskGroup() as group:
                child = group.create_task(asyncio.sleep(0, "child"))
            return child.result() if asyncio.current_task() is before else "another task"

        async def quick(_: Any) -> str:
            return "quick"

        stage.start(waits)
        stage.start(quick)
        while len(stage.finished) < 2:
            await asyncio.sleep(0)
        assert stage.finished == ["quick", "child"]

    asyncio.run(main())


def test_each_message_has_a_context_of_its_own_in_every_step() -> None:
    """What one sets no other sees, and its own later steps do."""

    async def main() -> None:
        stage = Stage()

        async def handler(_: Any) -> tuple[str, str]:
            before = MARK.get()
            MARK.set("mine")
            await asyncio.sleep(0)
            return before, MARK.get()

        def plain(_: Any) -> str:
            before = MARK.get()
            MARK.set("plain")
            return before

        for function in (handler, plain, handler, plain):
            stage.start(function)
        await turns()
        assert sorted(map(str, stage.finished)) == sorted(map(str, [("blank", "mine"), "blank"] * 2))
        assert MARK.get() == "blank"

    asyncio.run(main())


def test_nothing_starts_and_no_step_runs_while_the_gate_is_closed() -> None:
    """Both go on, once each, when it opens."""

    async def main() -> None:
        gate = Gate()
        stage, steps = Stage(gate), list[str]()
        wake = asyncio.get_running_loop().create_future()

        async def handler(_: Any) -> None:
            steps.append("first")
            await wake
            steps.append("later")

        stage.start(handler)
        await turns()
        gate.until = float("-inf")
        wake.set_result(None)
        stage.start(lambda _: steps.append("other"))
        await turns()
        assert steps == ["first"]
        gate.open()
        await turns()
        assert sorted(steps) == ["first", "later", "other"]

    asyncio.run(main())


@pytest.mark.parametrize("kept", [True, False])
def test_what_outlasts_the_right_to_run_is_told_when_it_may_leave(kept: bool) -> None:
    """The gate closes within a step: the handler has ended, and whoever asked hears of it later, or never."""

    async def main() -> None:
        gate = Gate()
        stage = Stage(gate)

        def close(_: Any) -> str:
            gate.until = float("-inf")
            return "at once"

        async def wait_and_close(_: Any) -> str:
            await asyncio.sleep(0)
            gate.until = float("-inf")
            return "late"

        async def wait_close_and_raise(_: Any) -> None:
            await asyncio.sleep(0)
            gate.until = float("-inf")
            raise LookupError

        handlers: list[tuple[Callable[..., Any], Any]] = [
            (close, "at once"),
            (wait_and_close, "late"),
            (wait_close_and_raise, LookupError),
        ]
        for handler, value in handlers:
            job = stage.start(handler)
            await turns()
            assert stage.finished == []
            assert job.task is not None
            if not kept:
                job.task.cancel()
            gate.open()
            await turns()
            assert stage.finished.pop() == (value if kept else asyncio.CancelledError)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, ValueError])
@pytest.mark.parametrize("late", [False, True])
def test_whatever_a_handler_raises_ends_its_own_message_only(kind: type[BaseException], late: bool) -> None:
    """In the first step or later; the next message runs."""

    async def main() -> None:
        stage = Stage()

        async def handler(_: Any) -> None:
            if late:
                await asyncio.sleep(0)
            raise kind

        stage.start(handler)
        stage.start(lambda _: "next")
        await turns()
        assert sorted(map(str, stage.finished)) == sorted(map(str, [kind, "next"]))

    asyncio.run(main())


def test_a_handler_that_cancels_its_own_task_and_returns_hits_no_other() -> None:
    """The next message, which waits, runs on the same task and is not cancelled."""

    async def main() -> None:
        stage = Stage()

        async def rude(_: Any) -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return "rude"

        async def waits(_: Any) -> str:
            await asyncio.sleep(0)
            return "waited"

        stage.start(rude)
        stage.start(waits)
        await turns()
        assert stage.finished == ["rude", "waited"]

    asyncio.run(main())


def test_cancelled_and_late_messages_are_refused_unstarted() -> None:
    """They never run."""

    async def main() -> None:
        stage = Stage()
        cancelled, late = stage.start(lambda _: "ran"), stage.start(lambda _: "ran")
        cancelled.cancelled = True
        late.deadline = 0.0
        await turns()
        assert stage.refused == [cancelled, late] and not stage.finished
        assert not cancelled.started and not late.started

    asyncio.run(main())


def test_cancelling_the_task_of_a_message_cancels_its_handler() -> None:
    """The task is known once the handler waits."""

    async def main() -> None:
        stage = Stage()

        async def waits(_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        job = stage.start(waits)
        await turns()
        assert job.task is not None
        job.task.cancel()
        await turns()
        assert stage.finished == [asyncio.CancelledError]

    asyncio.run(main())
