"""The tasks that run handlers.

Decides on which task and in which context a handler runs. A handler's first step runs in place, so that a handler
that never waits costs no task; yet `asyncio.current_task()` in that step is the very task that will finish it, and
its context is its own. The trick: a *worker* task takes messages one after the other; when a handler suspends, the
worker stays with that handler to its end, and another worker takes over the queue.

A naive first step on somebody else's task breaks `asyncio.timeout()` and `TaskGroup`: they remember the current task
to cancel it later.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

from entities.delivery import Delivery, Particulars, current_delivery
from entities.handler_threads import Unstarted
from entities.slow_handlers import SLOW_S

__all__ = ["Crew", "Gate", "OpenGate"]


# Messages that one worker handles before the event loop has a turn: a few milliseconds at most.
_TURN = 1024


class Gate(Protocol):
    """The right to run. Closed means suspended: nothing starts, no handler goes on, nothing leaves."""

    until: float
    """When the right ends, on the host's clock, in seconds."""

    def opened(self) -> asyncio.Future[None]:
        """A future that is done once the gate is open again."""
        ...


class OpenGate:
    """A gate that never closes."""

    until = float("inf")

    def opened(self) -> asyncio.Future[None]:
        """Done already."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Crew:
    """Runs started messages, oldest first.

    :ivar ready: those that have not had their first step; who puts one in directly has to `wake` the crew.

    :param finish: called with (delivery, value, error, started_at, ended_at) when a handler has ended.
    :param refuse: called with a delivery whose time is over or whose sender cancelled it before it started.
    :param slow: called with (delivery, seconds) when one step of a handler that suspends has taken too long.
    """

    def __init__(
        self,
        now: Callable[[], float],
        gate: Gate,
        finish: Callable[[Delivery, Any, BaseException | None, float, float], None],
        refuse: Callable[[Delivery, float], None],
        slow: Callable[[Delivery, float], None] = lambda delivery, seconds: None,
    ) -> None:
        self._now = now
        self._gate = gate
        self._finish = finish
        self._refuse = refuse
        self._slow = slow
        self.ready: deque[Delivery | Callable[[], object]] = deque()
        self._worker: asyncio.Task[None] | None = None  # the one that takes from the queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._blank = contextvars.Context()
        self._stopped = False

    def start(self, delivery: Delivery) -> None:
        """Let a message have its first step as soon as those before it have had theirs."""
        self.ready.append(delivery)
        if self._worker is None:
            self._call_worker()

    def wake(self) -> None:
        """See to it that what was put into `ready` is run."""
        if self.ready and self._worker is None:
            self._call_worker()

    def then(self, callback: Callable[[], object]) -> None:
        """Call back when everything started so far has had its first step; if it returns something true, the loop has a
        turn before anything else starts."""
        self.ready.append(callback)
        if self._worker is None:
            self._call_worker()

    @property
    def has_started(self) -> bool:
        """Whether a message waits for its first step."""
        return any(isinstance(job, Delivery) for job in self.ready)

    async def may_run(self) -> None:
        """Wait until what runs here may go on."""
        while self._now() >= self._gate.until:
            await self._gate.opened()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a lifecycle hook on a task of its own."""
        task = asyncio.get_running_loop().create_task(coroutine, context=self._blank.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def stopped(self) -> bool:
        """Whether the host has ended: what is cancelled now is not a handler's own doing."""
        return self._stopped

    def stop(self) -> None:
        """Cancel what runs and start nothing more."""
        self._stopped = True
        self.ready.clear()
        for task in list(self._tasks):
            task.cancel()

    def _call_worker(self) -> None:
        if self._stopped:
            return
        task = asyncio.get_running_loop().create_task(self._work())
        self._worker = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hand_over(self) -> None:
        self._worker = None
        if self.ready:
            self._call_worker()

    async def _work(self) -> None:
        ready, clock, gate, finish = self.ready, self._now, self._gate, self._finish
        handling = current_delivery.set
        myself = asyncio.current_task()
        assert myself is not None
        # One for all handlers that end in their first step and leave nothing in it; one that waits takes it along.
        context = self._blank.copy()
        context.run(handling, None)
        now = clock()
        until = gate.until  # looked up once for each message, when it has ended
        turn = _TURN
        while ready:
            if now >= until:
                await self.may_run()
                now, until = clock(), gate.until
                continue
            turn -= 1
            if not turn:  # messages that breed messages must not starve timers and the lanes
                turn = _TURN
                await asyncio.sleep(0)
                now, until = clock(), gate.until
                continue
            job = ready.popleft()
            if not isinstance(job, Delivery):
                if job():
                    # Who waited for the messages so far goes on before the next ones run: their answers can leave.
                    await asyncio.sleep(0)
                    turn = _TURN
                now, until = clock(), gate.until
                continue
            if job.cancelled or job.deadline <= now:
                self._refuse(job, now)
                continue
            job.started = True
            if len(context) != 1:  # the handler before left something of its own in it
                context = self._blank.copy()
            context.run(handling, job)
            message = job.message
            entity: Any = job.activation.entity  # type: ignore[union-attr]  # started
            error: BaseException | None = None
            value: Any = None
            started_at = now
            if not message.is_async and job.particulars is None:
                try:
                    value = context.run(message.function, entity, *job.args)
                except BaseException as raised:  # even SystemExit ends its message only
                    error = raised
            elif not message.is_async and job.particulars.prepare is None:  # type: ignore[union-attr]  # not None here
                try:
                    value = context.run(_in_one_step, job)
                except BaseException as raised:
                    error = raised
            else:
                try:
                    if job.particulars is None:
                        coroutine = message.function(entity, *job.args)
                    else:
                        coroutine = _particular(job, job.particulars)
                    awaited = context.run(coroutine.send, None)
                except StopIteration as returned:
                    value = returned.value
                except BaseException as raised:
                    error = raised
                else:
                    # It waits. This task is its own from here on; somebody else takes the queue.
                    job.task = myself
                    self._hand_over()
                    if (held_s := clock() - started_at) > SLOW_S:
                        self._slow(job, held_s)
                    try:
                        value = await _Rest(self, job, coroutine, awaited, context)
                    except Unstarted:  # no thread took it up in time
                        job.task = None
                        self._refuse(job, clock())
                        return
                    except BaseException as raised:
                        error = raised
                    job.task = None
                    ended_at = clock()
                    if job.message.on_thread:
                        started_at, ended_at = getattr(job, "ran", (started_at, ended_at))
                    if ended_at - started_at > SLOW_S:
                        job.message.long_suspended += 1
                    self._finish(job, value, error, started_at, ended_at)
                    return
            now, until = clock(), gate.until
            if now >= until:
                # The right to run ended while it ran. What it brought waits until that may leave, or is dropped.
                job.task = myself
                self._hand_over()
                try:
                    await self.may_run()
                except BaseException as raised:
                    error = raised
                job.task = None
                self._finish(job, value, error, started_at, now)
                return
            finish(job, value, error, started_at, now)
            if myself.cancelling():
                # The handler cancelled "its" task and returned: that must not hit the next message. `uncancel` does
                # not take back what is pending, so this task ends here and another one goes on.
                self._hand_over()
                return
        self._worker = None


def _in_one_step(job: Delivery) -> Any:
    """A handler that is no coroutine, whose message carries more than arguments by position."""
    particulars: Any = job.particulars
    if particulars.trail is not None:
        particulars.trail.started()
    assert job.activation is not None
    return job.message.function(job.activation.entity, *job.args, **particulars.kwargs or {})


async def _particular(job: Delivery, particulars: Particulars) -> Any:
    """The same for one that is a coroutine, or whose arguments must be waited for."""
    if particulars.trail is not None:
        particulars.trail.started()
    args, kwargs = job.args, particulars.kwargs or {}
    if particulars.prepare is not None:
        args, kwargs = await particulars.prepare(job)
    assert job.activation is not None
    value = job.message.function(job.activation.entity, *args, **kwargs)
    return await value if job.message.is_async else value


class _Rest:
    """What is left of a handler after its first step: each step in its own context, and with the right to run."""

    __slots__ = ("_awaited", "_context", "_coroutine", "_crew", "_job")

    def __init__(
        self,
        crew: Crew,
        job: Delivery,
        coroutine: Coroutine[Any, Any, Any],
        awaited: Any,
        context: contextvars.Context,
    ) -> None:
        self._crew = crew
        self._job = job
        self._coroutine = coroutine
        self._awaited = awaited
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited, crew = self._awaited, self._crew
        clock, gate = crew._now, crew._gate
        while True:
            thrown: BaseException | None = None
            try:
                yield awaited
            except GeneratorExit:
                raise  # its loop has ended, and nobody goes on with it: it must not wait
            except BaseException as raised:
                thrown = raised
            while (began_at := clock()) >= gate.until and not crew._stopped:
                try:
                    yield from gate.opened()
                except GeneratorExit:
                    raise
                except BaseException as raised:
                    if crew._stopped:
                        raise  # the gate never opens again
                    thrown = raised
            try:
                if thrown is None:
                    awaited = self._context.run(self._coroutine.send, None)
                else:
                    awaited = self._context.run(self._coroutine.throw, thrown)
            except StopIteration as returned:
                value, error = returned.value, None
                break
            except BaseException as raised:
                value, error = None, raised
                break
            finally:
                if (held_s := clock() - began_at) > SLOW_S:
                    crew._slow(self._job, held_s)
        yield from crew.may_run().__await__()  # its last step may have outlasted the right to run
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # it holds this frame by its traceback: else a cycle
