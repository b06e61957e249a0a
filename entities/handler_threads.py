"""The threads that run blocking handlers.

Decides when a blocking handler begins: on the first free thread, in the order the handlers became due, if its message
is still wanted, its time is not over and the host may run. To the crew such a handler is a coroutine that waits for
its thread, so order, mailbox and the answer are as for any other.

A thread cannot be interrupted. A message that is cancelled while its handler runs has no effect on it: the handler
runs to its end, the entity takes nothing else meanwhile, and the reply is the handler's.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from entities.delivery import Delivery, current_delivery

__all__ = ["HandlerThreads", "RaisedOnThread", "Unstarted"]


class Unstarted(Exception):
    """The message was cancelled, or its time was over, before a thread took it up."""


class RaisedOnThread(Exception):
    """What a blocking handler raised, wrapped: not everything may be raised through a coroutine as it is.

    :ivar error: what it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Gate(Protocol):
    until: float


class _State(enum.Enum):
    WAITING = enum.auto()
    UNSTARTED = enum.auto()
    SUSPENDED = enum.auto()  # the host may not run now: to be tried again once it may
    ENDED = enum.auto()


class _Call:
    """One handler's call: what to run, and what became of it. The loop reads the outcome, once it was told."""

    __slots__ = ("context", "delivery", "error", "function", "state", "told", "value")

    def __init__(self, function: Callable[[], Any], context: contextvars.Context, delivery: Delivery) -> None:
        self.function = function
        self.context = context
        self.delivery = delivery
        self.state = _State.WAITING
        self.value: Any = None
        self.error: BaseException | None = None
        self.told: asyncio.Future[None] | None = None

    def end(self, state: _State) -> None:
        """Say on the loop what became of it."""
        self.state = state
        if self.told is not None and not self.told.done():
            self.told.set_result(None)


class HandlerThreads:
    """At most `most` threads, made when they are needed and kept until `end`.

    They are daemons and not those of ``concurrent.futures``, which a process waits for at its exit: a handler that
    never returns must not keep a runner from ending.

    :param now: the host's clock, in seconds.
    :param stopped: whether the host has ended, so that nobody waits for a handler any more.
    """

    def __init__(
        self,
        most: int,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        gate: _Gate,
        stopped: Callable[[], bool],
    ) -> None:
        self._most = most
        self._loop = loop
        self._now = now
        self._gate = gate
        self._stopped = stopped
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[_Call] = deque()
        self._idle = 0
        self._made = 0
        self._ended = False

    def carrying(self, function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The function as a coroutine function that runs it on a thread.

        It raises `Unstarted` or `RaisedOnThread`, and CancelledError only once the host has ended.
        """

        async def carried(*args: Any, **kwargs: Any) -> Any:
            return await self._carry(partial(function, *args, **kwargs))

        return carried

    async def _carry(self, function: Callable[[], Any]) -> Any:
        delivery = current_delivery.get()
        assert delivery is not None
        # A copy: the loop may enter the handler's own context while the thread is in this one.
        context = contextvars.copy_context()
        while True:
            call = _Call(function, context, delivery)
            timer = self._offer(call)
            while call.state is _State.WAITING:
                call.told = self._loop.create_future()
                try:
                    await call.told
                except asyncio.CancelledError:
                    dropped = self._drop(call)
                    if self._stopped():
                        raise
                    if dropped:
                        call.end(_State.UNSTARTED)
            if timer is not None:
                timer.cancel()
            if call.state is _State.UNSTARTED:
                raise Unstarted
            if call.state is _State.ENDED:
                if call.error is not None:
                    raise RaisedOnThread(call.error)
                return call.value
            # Suspended. The crew takes no step of this coroutine before the host may run again, so: once more.

    def end(self) -> None:
        """Let the threads end: the idle ones now, the others after the handler that they are in."""
        with self._changed:
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()

    # -- on the loop

    def _offer(self, call: _Call) -> asyncio.TimerHandle | None:
        with self._changed:
            at_once = len(self._waiting) < self._idle or self._made < self._most
            self._waiting.append(call)
            if len(self._waiting) <= self._idle:
                self._changed.notify()
            elif self._made < self._most:
                self._made += 1
                name = f"entity-handler-{self._made}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        if at_once:
            return None
        # All are taken, perhaps by handlers that wait for this very one: only its deadline ends that.
        return self._loop.call_later(max(0.0, call.delivery.deadline - self._now()), self._expire, call)

    def _expire(self, call: _Call) -> None:
        if self._drop(call):
            call.end(_State.UNSTARTED)

    def _drop(self, call: _Call) -> bool:
        """Take a call out of the queue; False when a thread has it, or had it, already."""
        with self._changed:
            try:
                self._waiting.remove(call)
            except ValueError:
                return False
            return True

    # -- on the threads

    def _work(self) -> None:
        while (call := self._take()) is not None:
            state = self._run(call)
            try:
                self._loop.call_soon_threadsafe(call.end, state)
            except RuntimeError:
                return  # the loop is closed: nobody waits for it
            del call  # what it holds must not live until the next one comes

    def _take(self) -> _Call | None:
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._ended:
                self._changed.wait()
            self._idle -= 1
            return None if self._ended else self._waiting.popleft()

    def _run(self, call: _Call) -> _State:
        delivery = call.delivery
        began_at = self._now()
        if began_at >= self._gate.until:
            return _State.SUSPENDED
        if delivery.cancelled or delivery.deadline <= began_at:
            return _State.UNSTARTED
        try:
            call.value = call.context.run(call.function)
        except BaseException as raised:  # even SystemExit ends its message only
            call.error = raised
        delivery.ran = (began_at, self._now())
        return _State.ENDED
