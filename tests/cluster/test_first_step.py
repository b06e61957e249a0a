"""A handler's first step is an ordinary step of its own task, although it costs no task."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from typing import Any

import pytest

from cluster_app import Cluster, Entity, HandlerError, entity, message

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


@entity(name="first_step.Stepper")
class Stepper(Entity):
    """Uses what asyncio binds to the current task, before it has ever waited."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    @message
    async def time_out(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(1000)
        except TimeoutError:
            return "timed out"
        return "slept"

    @message
    async def group(self, parts: int) -> list[int]:
        async def part(number: int) -> int:
            await asyncio.sleep(0)
            return number * number

        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(part(number)) for number in range(parts)]
        return [task.result() for task in made]

    @message
    async def failing_group(self) -> str:
        async def fail() -> None:
            raise ValueError("part")

        async def hang() -> None:
            await asyncio.sleep(1000)

        failed = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hang())
                tasks.create_task(fail())
                await asyncio.sleep(1000)
        except* ValueError as group:
            failed = len(group.exceptions)
        return f"{failed} failed"

    @message
    async def wait_for(self) -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        except TimeoutError:
            return "timed out"
        return "slept"

    @message
    async def same_task(self) -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        between = asyncio.current_task()
        await asyncio.sleep(0)
        return before is not None and before is between is asyncio.current_task()

    @message
    async def cancel_own_task(self, then_wait: bool) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if then_wait:
            await asyncio.sleep(0)
        return "not reached" if then_wait else "returned"

    @message
    async def plain(self, number: int) -> int:
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        return number

    @message
    def plain_sync(self, number: int) -> int:
        return number

    @message
    async def set_mark(self, value: str, wait: bool) -> list[str]:
        seen = [mark.get()]
        mark.set(value)
        seen.append(mark.get())
        if wait:
            await asyncio.sleep(0)
        seen.append(mark.get())

        async def child() -> str:
            return mark.get()

        if wait:
            seen.append(await asyncio.create_task(child()))
        return seen

    @message
    def set_mark_sync(self, value: str) -> list[str]:
        seen = [mark.get()]
        mark.set(value)
        return [*seen, mark.get()]

    @message
    async def reset_mark(self) -> str:
        token = mark.set("for a while")
        await asyncio.sleep(0)
        mark.reset(token)  # raises in another context than it was set in
        return mark.get()

    @message
    async def fail_scope(self) -> str:
        import anyio

        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(1000)
        return "cancelled" if scope.cancelled_caught else "slept"


def stepper(cluster: Cluster) -> Stepper:
    """One of the test's own."""
    return cluster.entity(Stepper, uuid.uuid4().hex)


@pytest.mark.parametrize("round_", range(3))
def test_asyncio_timeout_in_the_first_step_ends_that_handler_alone(cluster: Cluster, round_: int) -> None:
    """Of many entities in one batch some time out: they say so, and the neighbours' replies are theirs."""
    run = uuid.uuid4().hex
    timed, fast = [], []
    for number in range(30):
        timed.append(cluster.entity(Stepper, f"{run}-timed-{number}").time_out.remote(0.0))
        fast.append(cluster.entity(Stepper, f"{run}-fast-{number}").plain.remote(number))
        fast.append(cluster.entity(Stepper, f"{run}-sync-{number}").plain_sync.remote(number))
    assert [reply.result(20) for reply in timed] == ["timed out"] * 30
    assert [reply.result(20) for reply in fast] == [number // 2 for number in range(60)]


def test_asyncio_timeout_fires_after_its_time(cluster: Cluster, let_pass: Any) -> None:
    """With a real delay: the handler waits, time passes, the timeout ends the wait inside the handler."""
    reply = stepper(cluster).time_out.remote(0.05)
    let_pass(0.1)
    assert reply.result(20) == "timed out"


def test_a_task_group_in_the_first_step_waits_for_its_tasks(cluster: Cluster) -> None:
    """All parts end before the reply leaves, for many handlers at once."""
    run = uuid.uuid4().hex
    replies = [cluster.entity(Stepper, f"{run}-{n}").group.remote(n) for n in range(20)]
    assert [reply.result(20) for reply in replies] == [[k * k for k in range(n)] for n in range(20)]


def test_a_failing_task_group_cancels_its_own_handler_only(cluster: Cluster) -> None:
    """One part fails, the group cancels the other and the handler's own wait; neighbours notice nothing."""
    run = uuid.uuid4().hex
    failing = [cluster.entity(Stepper, f"{run}-{n}").failing_group.remote() for n in range(10)]
    plain = [cluster.entity(Stepper, f"{run}-plain-{n}").plain.remote(n) for n in range(50)]
    assert [reply.result(20) for reply in failing] == ["1 failed"] * 10
    assert [reply.result(20) for reply in plain] == list(range(50))


def test_wait_for_in_the_first_step_times_out(cluster: Cluster, let_pass: Any) -> None:
    """`asyncio.wait_for` works as the very first thing a handler does."""
    reply = stepper(cluster).wait_for.remote()
    let_pass(0.01)
    assert reply.result(20) == "timed out"


def test_the_current_task_of_the_first_step_is_the_one_that_finishes(cluster: Cluster) -> None:
    """`asyncio.current_task()` is the same before and after every wait."""
    run = uuid.uuid4().hex
    replies = [cluster.entity(Stepper, f"{run}-{n}").same_task.remote() for n in range(50)]
    assert all(reply.result(20) for reply in replies)


@pytest.mark.parametrize("then_wait", [False, True], ids=["and returns", "and waits"])
def test_a_handler_that_cancels_its_own_task_hits_nobody_else(cluster: Cluster, then_wait: bool) -> None:
    """If it waits, CancelledError is its own HandlerError; if it returns, its value counts. Others are untouched."""
    run = uuid.uuid4().hex
    cancelling, plain = [], []
    for number in range(20):
        cancelling.append(cluster.entity(Stepper, f"{run}-{number}").cancel_own_task.remote(then_wait))
        plain.append(cluster.entity(Stepper, f"{run}-{number}").plain.remote(number))
        plain.append(cluster.entity(Stepper, f"{run}-plain-{number}").plain.remote(number))
    assert [reply.result(20) for reply in plain] == [number // 2 for number in range(40)]
    for reply in cancelling:
        if then_wait:
            with pytest.raises(HandlerError) as caught:
                reply.result(20)
            assert type(caught.value.__cause__) is asyncio.CancelledError
        else:
            assert reply.result(20) == "returned"


@pytest.mark.parametrize("wait", [False, True], ids=["in one step", "in two"])
def test_context_variables_do_not_leak_between_messages(cluster: Cluster, wait: bool) -> None:
    """What a handler sets, it sees to its end and its tasks inherit; the next message starts clean."""
    one = stepper(cluster)
    replies = [one.set_mark.remote(str(number), wait) for number in range(20)]
    for number, reply in enumerate(replies):
        assert reply.result(20) == ["clean", *[str(number)] * (3 if wait else 2)]
    sync = [one.set_mark_sync.remote(str(number)) for number in range(20)]
    for number, answer in enumerate(sync):
        assert answer.result(20) == ["clean", str(number)]
    assert one.set_mark.remote("last", False).result(20)[0] == "clean"


def test_a_context_token_can_be_reset_after_a_wait(cluster: Cluster) -> None:
    """All steps of a handler run in one context, so the token of its first step is good in its last."""
    assert stepper(cluster).reset_mark.remote().result(20) == "clean"


def test_the_callers_context_does_not_travel(cluster: Cluster) -> None:
    """What the sender has set is not what the handler sees."""
    mark.set("sender's")
    try:
        assert stepper(cluster).set_mark.remote("x", True).result(20)[0] == "clean"
    finally:
        mark.set("clean")


def test_an_anyio_cancel_scope_works_in_the_first_step(cluster: Cluster, let_pass: Any) -> None:
    """anyio binds its scopes to the task that entered them: it has to be the one that leaves them."""
    reply = stepper(cluster).fail_scope.remote()
    let_pass(0.01)
    assert reply.result(20) == "cancelled"
