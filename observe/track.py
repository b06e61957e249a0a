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
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, cast

from observe.failure import classify
from observe.instruments import cluster
from observe.labels import label
from observe.recorder import CounterCell, process_recorder

__all__ = ["Operation", "track_cluster"]

Operation: TypeAlias = Literal["send", "receive", "broadcast"]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_OPERATIONS = ("send", "receive", "broadcast")


class _Cells:
    """The cells of one operation on one entity type, bound once in a process."""

    __slots__ = ("entity_type", "errors", "failed", "lock", "operation", "started", "succeeded")

    def __init__(self, operation: Operation, entity_type: str) -> None:
        recorder = process_recorder()
        started = cluster.messages_received if operation == "receive" else cluster.messages_sent
        latency = cluster.message_latency
        of = {"entity_type": entity_type, "operation": operation}
        self.operation: Operation = operation
        self.entity_type = entity_type
        self.lock = recorder.lock
        self.started = recorder.counter(started, **of)
        self.succeeded = recorder.histogram(latency, **of, outcome="ok")
        self.failed = recorder.histogram(latency, **of, outcome="error")
        self.errors: dict[str, CounterCell] = {}

    def begin(self) -> None:
        with self.lock:
            self.started.value += 1

    def end(self, duration_s: float, error: BaseException | None) -> None:
        if error is None:
            with self.lock:
                self.succeeded.record(duration_s)
            return
        reason = classify(error)
        errors = self.errors.get(reason)
        if errors is None:
            errors = self.errors[reason] = process_recorder().counter(
                cluster.errors, entity_type=self.entity_type, type=reason, operation=self.operation
            )
        with self.lock:
            self.failed.record(duration_s)
            errors.value += 1


# As many as there are operations and (bounded) entity types.
_cells: dict[tuple[str, str], _Cells] = {}


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
        cells = _cells.get((operation, name))
        if cells is None:
            cells = _cells.setdefault((operation, name), _Cells(operation, name))
        self._tracked = cells
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
