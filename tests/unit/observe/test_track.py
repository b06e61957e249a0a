"""track_cluster: counts, latency and error label of a send, receive or broadcast around any code."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import cloudpickle
import pytest

from observe.metrics import MetricsSnapshot, snapshot, track_cluster
from observe.totals import subtract
from observe.track import Operation

OPERATIONS: tuple[Operation, ...] = ("send", "receive", "broadcast")


@dataclass
class Seen:
    """What the metrics say about one operation on one entity type."""

    started: float
    ok: float
    failed: float
    errors: float
    latency_s: float


@pytest.fixture
def seen() -> Callable[..., Seen]:
    """Read what was counted since the test began."""
    before = snapshot().totals

    def read(operation: str, entity_type: str = "Tracked", error: str | None = None) -> Seen:
        now = MetricsSnapshot(subtract(snapshot().totals, before))
        name = "cluster_messages_received_total" if operation == "receive" else "cluster_messages_sent_total"
        of = {"entity_type": entity_type, "operation": operation}
        latency = "cluster_message_latency_seconds"
        return Seen(
            started=now.value(name, **of),
            ok=now.value(latency, **of, outcome="ok"),
            failed=now.value(latency, **of, outcome="error"),
            errors=now.value("cluster_errors_total", **of, **({"type": error} if error else {})),
            latency_s=now.histogram(latency, **of).sum,
        )

    return read


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that moves only when told to."""
    reading = [100.0]

    def advance(seconds: float) -> None:
        reading[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: reading[0])
    return advance


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_block_that_ends_well_is_one_message_with_outcome_ok(
    operation: Operation, seen: Callable[..., Seen], clock: Callable[[float], None]
) -> None:
    """Entered: counted. Left: its latency recorded, to the tick."""
    with track_cluster(operation=operation, entity_type="Tracked"):
        inside = seen(operation)
        clock(0.25)
    assert inside == Seen(started=1, ok=0, failed=0, errors=0, latency_s=0)
    assert seen(operation) == Seen(started=1, ok=1, failed=0, errors=0, latency_s=0.25)


class Unspeakable(TypeError):
    """Has no text: its `__str__` is wrong."""

    def __str__(self) -> str:
        raise AttributeError("no such field")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError("late"), "Timeout"),
        (ValueError("bad"), "Unknown"),
        (KeyboardInterrupt(), "Unknown"),
        (Unspeakable(), "Unknown"),
    ],
    ids=repr,
)
def test_an_exception_is_counted_by_its_reason_and_passes_through(
    operation: Operation, error: BaseException, reason: str, seen: Callable[..., Seen]
) -> None:
    """The caller gets the very exception; errors equal the latency count with outcome error."""
    with pytest.raises(type(error)) as caught, track_cluster(operation=operation, entity_type="Tracked"):
        raise error
    assert caught.value is error
    after = seen(operation, error=reason)
    assert (after.started, after.ok, after.failed, after.errors) == (1, 0, 1, 1)


def test_receiving_is_not_counted_as_sending(seen: Callable[..., Seen]) -> None:
    """The two counters are each for their side."""
    with track_cluster(operation="receive", entity_type="Tracked"):
        pass
    assert (seen("receive").started, seen("send").started, seen("broadcast").started) == (1, 0, 0)


def test_a_decorated_function_is_tracked_at_each_call(
    seen: Callable[..., Seen], clock: Callable[[float], None]
) -> None:
    """Arguments, result and name are the function's own; each call is a message."""

    @track_cluster(operation="send", entity_type="Tracked")
    def double(value: int, *, wait_s: float) -> int:
        """Twice the value."""
        clock(wait_s)
        if value < 0:
            raise TimeoutError
        return value * 2

    assert (double(2, wait_s=0.5), double(3, wait_s=0.25)) == (4, 6)
    with pytest.raises(TimeoutError):
        double(-1, wait_s=1.0)
    assert (double.__name__, double.__doc__) == ("double", "Twice the value.")
    assert seen("send", error="Timeout") == Seen(started=3, ok=2, failed=1, errors=1, latency_s=1.75)


def test_a_decorated_async_function_is_timed_until_it_is_done(
    seen: Callable[..., Seen], clock: Callable[[float], None]
) -> None:
    """It stays a coroutine function, and is a message when it runs, not when it is called."""

    @track_cluster(operation="send", entity_type="Tracked")
    async def slow(fail: bool = False) -> str:
        await asyncio.sleep(0)
        clock(0.5)
        if fail:
            raise ConnectionResetError
        return "done"

    async def main() -> None:
        coroutine = slow()
        assert seen("send").started == 0
        assert await coroutine == "done"
        with pytest.raises(ConnectionResetError):
            await slow(fail=True)

    assert inspect.iscoroutinefunction(slow)
    asyncio.run(main())
    assert seen("send", error="RunnerUnavailable") == Seen(started=2, ok=1, failed=1, errors=1, latency_s=1.0)


def test_a_decorated_method_gets_its_self(seen: Callable[..., Seen]) -> None:
    """The decorator works in a class body, below staticmethod too."""

    class Airport:
        """A class with tracked methods."""

        code = "JFK"

        @track_cluster(operation="receive", entity_type="Tracked")
        def name(self) -> str:
            return self.code

        @staticmethod
        @track_cluster(operation="receive", entity_type="Tracked")
        def country() -> str:
            return "US"

    assert (Airport().name(), Airport().country()) == ("JFK", "US")
    assert seen("receive").ok == 2


def test_a_cancelled_task_counts_as_cancelled(seen: Callable[..., Seen]) -> None:
    """Cancellation passes through and is counted once."""

    async def main() -> None:
        started = asyncio.Event()

        async def wait() -> None:
            async with track_cluster(operation="send", entity_type="Tracked"):
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen("send", error="Cancelled").errors == 1


def test_one_object_may_be_entered_again_while_it_is_entered(
    seen: Callable[..., Seen], clock: Callable[[float], None]
) -> None:
    """Nested entries of one object are messages of their own, each with its own time."""
    tracker = track_cluster(operation="send", entity_type="Tracked")
    with tracker:
        clock(1.0)
        with tracker:
            clock(0.5)
    assert seen("send") == Seen(started=2, ok=2, failed=0, errors=0, latency_s=2.0)


def test_tasks_that_share_one_object_each_get_their_own_time(clock: Callable[[float], None]) -> None:
    """They leave in the order in which they came, not the reverse, and no time is mixed up."""
    before = snapshot().totals
    tracker = track_cluster(operation="send", entity_type="Interleaved")

    async def main() -> None:
        first_may_leave, second_is_in = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with tracker:
                clock(4.0)
                await first_may_leave.wait()

        async def second() -> None:
            async with tracker:
                second_is_in.set()
                await asyncio.gather(task)
                clock(0.0625)

        task = asyncio.create_task(first())
        await asyncio.sleep(0)
        other = asyncio.create_task(second())
        await second_is_in.wait()
        first_may_leave.set()
        await asyncio.gather(task, other)

    asyncio.run(main())
    view = MetricsSnapshot(subtract(snapshot().totals, before)).histogram(
        "cluster_message_latency_seconds", entity_type="Interleaved"
    )
    # 4 s is in the bucket up to 5 s, 0.0625 s in the one up to 0.1 s.
    assert (view.bucket_counts, view.sum) == ((0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0), 4.0625)


def test_leaving_elsewhere_than_entering_is_counted_all_the_same(
    seen: Callable[..., Seen], clock: Callable[[float], None]
) -> None:
    """A block entered in one thread and left in another (as fixtures do) breaks nothing."""
    tracker = track_cluster(operation="send", entity_type="Tracked")
    tracker.__enter__()
    tracker.__enter__()
    clock(0.5)
    for _ in range(2):
        leaving = threading.Thread(target=tracker.__exit__, args=(None, None, None))
        leaving.start()
        leaving.join()
    assert seen("send") == Seen(started=2, ok=2, failed=0, errors=0, latency_s=1.0)
    assert tracker._entered == []


def test_threads_that_share_one_object_lose_no_count(seen: Callable[..., Seen]) -> None:
    """Eight threads in and out of one object: every message is there."""
    tracker = track_cluster(operation="send", entity_type="Tracked")

    def work() -> None:
        for _ in range(500):
            with tracker:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen("send").started, seen("send").ok) == (4000, 4000)


def test_the_entity_type_may_be_a_class(seen: Callable[..., Seen]) -> None:
    """A class counts under its name, as it does for messages."""

    class Aircraft:
        """An entity's class."""

    with track_cluster(operation="send", entity_type=Aircraft):
        pass
    assert seen("send", "Aircraft").ok == 1


def test_an_unknown_operation_is_refused() -> None:
    """The label has three values."""
    with pytest.raises(ValueError, match="one of send, receive, broadcast, not 'sned'"):
        track_cluster(operation="sned", entity_type="A")  # type: ignore[arg-type]  # the fault


def test_what_cannot_be_tracked_is_refused_when_it_is_decorated() -> None:
    """A generator's time would be its consumer's; a descriptor would lose what it is."""

    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    decorate = track_cluster(operation="send", entity_type="A")
    with pytest.raises(TypeError, match="cannot decorate a generator"):
        decorate(numbers)
    with pytest.raises(TypeError, match="cannot decorate a generator"):
        decorate(later)
    with pytest.raises(TypeError, match="below @staticmethod"):
        decorate(staticmethod(numbers))
    with pytest.raises(TypeError, match="decorates functions"):
        decorate(Seen)


def test_a_decorated_function_travels_by_value_and_counts_where_it_runs(seen: Callable[..., Seen]) -> None:
    """Ray sends a function of a script by value: its cells are found anew in the process that runs it."""
    base = 40

    @track_cluster(operation="receive", entity_type="Tracked")
    def answer() -> int:
        return base + 2

    travelled = pickle.loads(cloudpickle.dumps(answer))
    assert travelled() == 42
    assert seen("receive").ok == 1
