"""Time for tests: a clock that moves only when told to, and an event loop that lives by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from entities.response import RUNNER_THREADS

__all__ = ["SteppedClock", "SteppedLoop"]

T = TypeVar("T")


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop on a thread of its own whose timers follow a stepped clock."""

    def __init__(self) -> None:
        self.clock_s = 1000.0  # not 0: nothing may take the start for "never"
        super().__init__()
        self.thread = threading.Thread(target=self.run_forever, name="memory-cluster", daemon=True)
        self.thread.start()
        RUNNER_THREADS.add(self.thread.ident or 0)  # started, so it has one

    def time(self) -> float:
        """The stepped clock, in seconds."""
        return self.clock_s

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """Run a coroutine on this loop from another thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self).result(timeout_s)

    def end(self) -> None:
        """Stop the loop and its thread, and what still runs there."""
        self.call(self._cancel_all())
        self.call_soon_threadsafe(self.stop)
        self.thread.join()
        RUNNER_THREADS.discard(self.thread.ident or 0)  # the number may be given to another thread
        self.close()

    async def _cancel_all(self) -> None:
        for _ in range(3):  # one that is cancelled may wait for another
            for task in asyncio.all_tasks(self):
                if task is not asyncio.current_task():
                    task.cancel()
            await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing is left to do at this moment of the clock."""
        # BaseEventLoop's own queue: there is no public way to know that a loop has nothing to run.
        while self._ready:  # type: ignore[attr-defined]  # see above
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move the clock from timer to timer, letting everything run at each."""
        target = self.clock_s + seconds
        await self.quiet()
        while True:
            timers = self._scheduled  # type: ignore[attr-defined]  # the heap of timers, see quiet()
            due = min((t.when() for t in timers if not t.cancelled()), default=target + 1.0)
            if due > target:
                break
            self.clock_s = max(self.clock_s, due)
            await asyncio.sleep(0)
            await self.quiet()
        self.clock_s = target
        await asyncio.sleep(0)
        await self.quiet()


class SteppedClock:
    """The clock of a `MemoryCluster`."""

    def __init__(self, loop: SteppedLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        return self._loop.clock_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: every timer that falls due runs, in order, before this returns."""
        if not seconds >= 0:
            raise ValueError(f"advance({seconds!r}): seconds, 0 or more")
        self._loop.call(self._loop.advance(seconds))

    def settle(self) -> None:
        """Let everything run that is due now."""
        self._loop.call(self._loop.advance(0.0))
