"""Replies: waited for by threads, loops and callbacks, and settled once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from entities.errors import HandlerError
from entities.response import RUNNER_THREADS, EntityResponse, Settlement, settle


class Route:
    """Where a cancellation goes."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    def cancel(self, response: EntityResponse[Any]) -> bool:
        self.cancelled.append(response)
        return True

    def hurry(self) -> None:
        """Nothing waits here to be sent."""

    def hurry_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nor here."""


def reply(route: Route | None = None) -> EntityResponse[int]:
    """A reply that is not there yet."""
    return EntityResponse(route or Route(), (), 0.0)


def test_a_settled_reply_gives_its_value_or_raises_its_error() -> None:
    """At once, as often as asked."""
    good, bad = reply(), reply()
    settle(good, 7, None)
    settle(bad, None, HandlerError("no"))
    assert good.done() and good.result(timeout_s=0) == good.result() == 7
    assert good.exception() is None
    with pytest.raises(HandlerError):
        bad.result()


def test_running_out_of_patience_leaves_the_message_alive() -> None:
    """The built-in TimeoutError, no ClusterError; a later wait gets the value."""
    waiting = reply()
    with pytest.raises(TimeoutError) as raised:
        waiting.result(timeout_s=0)
    assert type(raised.value) is TimeoutError
    assert not waiting._waiters
    settle(waiting, 1, None)
    assert waiting.result() == 1


def test_threads_that_race_with_the_settling_all_get_the_value() -> None:
    """Nobody who begins to wait at that very moment is forgotten."""
    for _ in range(100):
        waiting = reply()
        got: list[int] = []
        start = threading.Barrier(4)

        def wait(
            waiting: EntityResponse[int] = waiting,
            got: list[int] = got,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            got.append(waiting.result(timeout_s=20))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait()
        settle(waiting, 5, None)
        for thread in threads:
            thread.join()
        assert got == [5, 5, 5]


def test_replies_that_end_together_wake_a_loop_once() -> None:
    """One hop into a foreign loop however many of its coroutines wait."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        replies = [reply() for _ in range(50)]
        tasks = [asyncio.ensure_future(_await(each)) for each in replies]
        await asyncio.sleep(0)
        hops = 0
        real = loop.call_soon_threadsafe

        def counting(*args: Any, **kwargs: Any) -> asyncio.Handle:
            nonlocal hops
            hops += 1
            return real(*args, **kwargs)

        loop.call_soon_threadsafe = counting  # type: ignore[method-assign,assignment]  # counts the hops

        def end() -> None:
            settlement = Settlement()
            for number, each in enumerate(replies):
                settlement.end(each, number, None)
            settlement.wake()

        thread = threading.Thread(target=end)
        thread.start()
        assert await asyncio.gather(*tasks) == list(range(50))
        thread.join()
        return hops

    assert asyncio.run(main()) == 1


async def _await(waiting: EntityResponse[int]) -> int:
    return await waiting


def test_a_cancelled_waiter_is_forgotten() -> None:
    """The reply keeps nothing of it, and settling it later is no error."""

    async def main() -> None:
        waiting = reply()
        task = asyncio.ensure_future(_await(waiting))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not waiting._waiters
        settle(waiting, 1, None)
        assert await waiting == 1

    asyncio.run(main())


def test_callbacks_run_once_before_or_after_and_one_that_raises_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the reply itself as argument; what it raised is logged."""
    waiting = reply()
    seen: list[Any] = []
    waiting.add_done_callback(lambda _: 1 / 0)
    waiting.add_done_callback(seen.append)
    assert not seen
    settle(waiting, 1, None)
    waiting.add_done_callback(seen.append)
    assert seen == [waiting, waiting]
    assert "done-callback" in caplog.text


def test_cancel_asks_the_sender_only_while_the_reply_is_not_there() -> None:
    """Afterwards it is False and asks nobody."""
    route = Route()
    waiting = reply(route)
    assert waiting.cancel()
    settle(waiting, 1, None)
    assert not waiting.cancel()
    assert route.cancelled == [waiting]


def test_result_on_a_runners_thread_raises_instead_of_blocking() -> None:
    """Unless the reply is there already."""
    waiting = reply()
    RUNNER_THREADS.add(threading.get_ident())
    try:
        with pytest.raises(RuntimeError, match="await"):
            waiting.result()
        settle(waiting, 1, None)
        assert waiting.result() == 1
    finally:
        RUNNER_THREADS.discard(threading.get_ident())
