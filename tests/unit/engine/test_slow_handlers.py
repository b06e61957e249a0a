"""Handlers that hold the event loop: counted once each, named rightly, told while they stand."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from entities import Entity, entity, message
from entities.crew import OpenGate
from entities.declaration import define
from entities.delivery import Delivery
from entities.host import EntityHost
from entities.stall_watch import StallWatch
from observe.recorder import Recorder
from observe.snapshot import MetricsSnapshot


class Clock:
    """A clock that handlers move."""

    now = 100.0


clock = Clock()


class Stand:
    """Where handlers stand until the test lets them go."""

    def __init__(self) -> None:
        self.there = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def stay(self) -> None:
        self.there.release()
        self.go.acquire(timeout=50)

    def reached(self) -> None:
        assert self.there.acquire(timeout=30)

    def leave(self) -> None:
        self.go.release()


stand = Stand()


@entity(name="slow.Ox")
class Ox(Entity):
    """Moves the clock as if it had worked, or stands."""

    @message
    def plough(self, seconds: float) -> None:
        clock.now += seconds

    @message
    def stumble(self, seconds: float) -> None:
        clock.now += seconds
        raise ValueError("stumbled")

    @message
    async def graze(self, *steps: float) -> None:
        for seconds in steps:
            clock.now += seconds
            await asyncio.sleep(0)

    @message
    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(0)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(_pass, seconds, waiting)
        await waiting

    @message(blocking=True)
    def haul(self, seconds: float) -> None:
        clock.now += seconds

    @message
    def stay(self) -> None:
        stand.stay()

    @message
    async def stay_between(self) -> None:
        await asyncio.sleep(0)
        stand.stay()
        await asyncio.sleep(0)
        stand.stay()

    @message
    async def trot(self, steps: int) -> None:
        for _ in range(steps):
            stand.stay()
            await asyncio.sleep(0)


def _pass(seconds: float, waiting: asyncio.Future[None]) -> None:
    clock.now += seconds
    waiting.set_result(None)


@entity(name="slow.Calf")
class Calf(Entity):
    """Takes its time to be born."""

    def __init__(self) -> None:
        stand.stay()

    async def on_activate(self) -> None:
        stand.stay()

    @message
    def moo(self) -> None: ...


class Field:
    """A host on a loop of its own, and a watch that looks when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        self.loop = loop
        self.recorder = Recorder()
        self.host = EntityHost(loop, lambda: clock.now, OpenGate(), self.recorder, cast(Any, None))
        self.host.register(define(Ox))
        self.host.register(define(Calf))
        self.watched_s = 0.0
        self.watch = StallWatch(loop, thread.ident or 0, lambda: self.watched_s)
        self._ended: list[threading.Event] = []

    def send(self, method: str, *args: Any, kind: str = "slow.Ox") -> threading.Event:
        """Send a message; the event is set when it has ended."""
        ended = threading.Event()

        class Origin:
            sender = "test"

            def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
                ended.set()

        def accept() -> None:
            hosted = self.host.live.hosted(kind)
            assert hosted is not None
            delivery = Delivery(Origin(), 0, hosted.messages[method], "one", args, float("inf"), clock.now)
            living = hosted.live.get("one") or self.host.activator.activate(
                hosted, "one", 0, (1, 1), clock.now
            )
            assert self.host.turns.accept(delivery, living) is None

        self.loop.call_soon_threadsafe(accept)
        self._ended.append(ended)
        return ended

    def done(self) -> None:
        """Wait until everything sent has ended."""
        for ended in self._ended:
            assert ended.wait(30)

    def look(self, *pauses: float) -> None:
        """Look at once, and again after each of these seconds."""
        self.watch.look()
        for seconds in pauses:
            self.watched_s += seconds
            self.watch.look()

    def counted(self) -> dict[str, float]:
        """Slow handlers by method, as far as they are in the recorder."""
        points = MetricsSnapshot(self.recorder.totals())
        return {
            point.labels["method"]: point.value
            for point in points
            if point.name == "cluster_slow_handlers_total"
        }

    def flushed(self) -> dict[str, float]:
        """The same once everything has ended and was flushed."""
        self.done()

        async def flush() -> None:
            self.host.live.flush()

        asyncio.run_coroutine_threadsafe(flush(), self.loop).result(30)
        return self.counted()


@pytest.fixture
def field() -> Iterator[Field]:
    """A field; its loop ends with the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        found = Field(loop, thread)
        yield found
        found.done()

        async def stop() -> None:
            found.host.stop()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged about slow handlers."""
    caplog.set_level(logging.WARNING, logger="entities")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "entities"]


def test_a_handler_that_does_not_suspend_is_counted_at_its_end(
    field: Field, logged: Callable[[], list[str]]
) -> None:
    """Above 100 ms, not at it; whether it returns or raises; with its method, and logged once."""
    for seconds in (0.0625, 0.25, 0.0, 0.125):
        field.send("plough", seconds)
    field.send("stumble", 0.5)
    assert field.flushed() == {"plough": 2, "stumble": 1}
    field.send("plough", 1.0)
    field.send("plough", 0.0)
    assert field.flushed() == {"plough": 3, "stumble": 1}
    assert [text.partition(" ")[0] for text in logged()] == ["slow.Ox.plough", "slow.Ox.stumble"]


def test_each_step_of_a_handler_that_suspends_is_measured_by_itself(field: Field) -> None:
    """Three steps of which two are slow are two stalls, were they the first or later ones; waiting is none."""
    field.send("graze", 0.25, 0.0625, 0.25)
    assert field.flushed() == {"graze": 2}
    field.send("graze", 0.0625, 0.0625, 0.0625)  # long in all, and none of it in one go
    field.send("rest", 5.0)
    assert field.flushed() == {"graze": 2}


def test_a_blocking_handler_holds_nothing(field: Field) -> None:
    """However long it takes: it is on a thread."""
    field.send("haul", 5.0)
    assert field.flushed() == {}


def test_what_stands_is_counted_while_it_stands_and_once(
    field: Field, logged: Callable[[], list[str]]
) -> None:
    """Not before 100 ms, then at once, with the stack of where it stands; its end adds nothing."""
    field.send("stay")
    stand.reached()
    field.look(0.0625, 0.03125)
    assert field.counted() == {}
    field.look(0.0625)
    assert field.counted() == {"stay": 1}
    field.look(1.0, 1.0)
    clock.now += 3.0  # the host's clock has seen it too
    stand.leave()
    assert field.flushed() == {"stay": 1}
    (text,) = logged()
    assert text.startswith("slow.Ox.stay has held the event loop for more than 0.1 s, here:")
    assert "self.go.acquire(timeout=50)" in text
    assert "crew.py" not in text
    field.send("stay")
    stand.reached()
    field.look(0.25)
    stand.leave()
    assert field.flushed() == {"stay": 2}
    assert len(logged()) == 1


def test_later_steps_are_seen_while_they_stand(field: Field) -> None:
    """Two steps of one handler that stand are two stalls, each once, although their end is measured as well."""
    field.send("stay_between")
    for number in (1, 2):
        stand.reached()
        field.look(0.25)
        assert field.counted() == {"stay_between": number}
        clock.now += 3.0
        stand.leave()
    assert field.flushed() == {"stay_between": 2}


def test_what_lets_the_loop_turn_between_is_no_stall(field: Field) -> None:
    """Seen at the same place again and again, but each time after a turn of the loop."""
    field.send("trot", 5)
    for _ in range(5):
        stand.reached()
        field.look(0.0625)
        stand.leave()
    assert field.flushed() == {}


def test_other_messages_in_one_turn_are_no_stall(field: Field) -> None:
    """One after the other without a turn of the loop, each of them short."""
    for _ in range(5):
        field.send("stay")
    for _ in range(5):
        stand.reached()
        field.look(0.0625)
        stand.leave()
    assert field.flushed() == {}


def test_what_has_gone_on_before_it_is_counted_is_left_to_its_end(field: Field) -> None:
    """Between the look and the count the handler may end: then its own duration counts it."""
    field.send("stay")
    stand.reached()
    field.look()
    field.watched_s += 1.0
    with field.recorder.lock:
        looking = threading.Thread(target=field.watch.look)
        looking.start()
        clock.now += 1.0
        stand.leave()
        field.done()
    looking.join()
    assert field.flushed() == {"stay": 1}


def test_lifecycle_hooks_are_named(field: Field) -> None:
    """`__init__` and `on_activate` hold the loop as handlers do."""
    field.send("moo", kind="slow.Calf")
    for hook in ("__init__", "on_activate"):
        stand.reached()
        field.look(0.25)
        assert field.counted()[hook] == 1
        stand.leave()
    assert field.flushed() == {"__init__": 1, "on_activate": 1}


def test_an_idle_loop_is_not_woken(field: Field) -> None:
    """The watch leaves no callback where no handler runs."""
    woken: list[object] = []
    field.loop.call_soon_threadsafe = lambda *args, **kwargs: woken.append(args)  # type: ignore[assignment,method-assign]  # noted, not done
    field.look(1.0, 1.0)
    del field.loop.call_soon_threadsafe  # the class's own again
    assert woken == []
