"""The metrics of one kind of message around any block of code, as a context manager and as a decorator.

Decides when a tracked block is counted and timed. Does not decide how an exception is called
(`observe.failure`) and never keeps one from its caller.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from observe.labels import label
from observe.message_cells import Operation, message_cells

__all__ = ["Operation", "track_cluster"]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_OPERATIONS = ("send", "receive", "broadcast")


class track_cluster:
    """Count and time a block, or every call of a function, as a message of `entity_type`.

    ``send`` and ``broadcast`` count a message sent when the block is entered, ``receive`` a message received.
    When it is left, its latency is recorded with outcome ``ok``, or with ``error`` and the error counted by
    its type. The exception always passes through. Works around sync and async code (``with``, ``async with``,
    on ``def``, on ``async def``); one object may be entered again while it is entered, by any thread or task.

    Raises ValueError for an unknown operation, TypeError when it decorates a generator function, a class, or
    a ``staticmethod`` or ``classmethod`` object (put it below those).
    """

    def __init__(self, *, operation: Operation, entity_type: str | type) -> None:
        if operation not in _OPERATIONS:
            raise ValueError(f"operation is one of {', '.join(_OPERATIONS)}, not {operation!r}")
        name = label(entity_type=entity_type)["entity_type"]
        self._tracked = message_cells(operation, name)
        # Who entered and when. Entries of one object by several tasks do not leave in the order they came.
        self._entered: list[tuple[object, float]] = []

    def __reduce__(self) -> tuple[Callable[[Operation, str], track_cluster], tuple[Operation, str]]:
        # A decorated function may travel to another process: there it counts on that process's cells.
        return (_rebuilt, (self._tracked.operation, self._tracked.entity_type))

    def __enter__(self) -> track_cluster:
        self._tracked.begin()
        self._entered.append((_caller(), time.perf_counter()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tracked.end(time.perf_counter() - self._leave(), error)

    async def __aenter__(self) -> track_cluster:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        """Return the function, each call of it tracked. Name, signature and documentation stay."""
        _refuse_what_cannot_be_tracked(function)
        tracker = self
        clock = time.perf_counter
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object whose call is async
        ):

            @functools.wraps(function)
            async def tracked_async(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
                cells = tracker._tracked
                cells.begin()
                start = clock()
                try:
                    result = await cast(Any, function(*args, **kwargs))
                except BaseException as error:
                    cells.end(clock() - start, error)
                    raise
                cells.end(clock() - start, None)
                return result

            return cast("Callable[Parameters, Returned]", tracked_async)

        @functools.wraps(function)
        def tracked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            cells = tracker._tracked
            cells.begin()
            start = clock()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                cells.end(clock() - start, error)
                raise
            cells.end(clock() - start, None)
            return result

        return tracked

    def _leave(self) -> float:
        entered = self._entered
        if len(entered) == 1:
            return entered.pop()[1]
        caller = _caller()
        with self._tracked.lock:
            for index in range(len(entered) - 1, -1, -1):
                if entered[index][0] == caller:
                    return entered.pop(index)[1]
            # Left by another thread or task than entered it: which pair it was does not change the sum of
            # latencies.
            return entered.pop()[1]


def _caller() -> object:
    """The running task, or the thread where there is none."""
    loop = asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    return task if task is not None else threading.get_ident()


def _refuse_what_cannot_be_tracked(function: object) -> None:
    if isinstance(function, staticmethod | classmethod):
        raise TypeError(f"put @track_cluster below @{type(function).__name__}, not above it")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"track_cluster decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("track_cluster cannot decorate a generator: use `with track_cluster(...)` inside it")


def _rebuilt(operation: Operation, entity_type: str) -> track_cluster:
    return track_cluster(operation=operation, entity_type=entity_type)
