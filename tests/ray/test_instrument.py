"""Plain Ray actors behind instrumented handles: what is counted, and that nothing else changes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, PendingCallsLimitExceeded, RayTaskError, TaskCancelledError

from cluster_app import Cluster
from observe.metrics import MetricsSnapshot, instrument, snapshot
from observe.totals import subtract
from tests.conftest import Counts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_instance")]


class Gate:
    """Holds calls until it is told to let them go."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._waiting = 0

    async def passed(self) -> None:
        self._waiting += 1
        await self._open.wait()

    async def open(self) -> None:
        self._open.set()

    async def waiting(self) -> int:
        return self._waiting


class Worker:
    """A synchronous actor."""

    def __init__(self, gate: Any = None) -> None:
        self._gate = gate

    def double(self, value: int = 1) -> int:
        return value * 2

    def fail(self, text: str = "no") -> None:
        raise LookupError(text)

    def held(self) -> str:
        ray.get(self._gate.passed.remote())
        return "let go"

    def pair(self) -> tuple[int, int]:
        return 1, 2

    def half_a_pair(self, *, first: bool) -> tuple[object, object]:
        return (1, threading.Lock()) if first else (threading.Lock(), 2)

    def lock(self) -> object:
        return threading.Lock()

    def large(self) -> bytes:
        return bytes(1_000_000)

    def numbers(self, count: int, *, fail: bool = False) -> Iterator[int]:
        for number in range(count):  # noqa: UP028  Ray sends to it, which a range can't take
            yield number
        if fail:
            raise LookupError(count)

    def held_numbers(self) -> Iterator[int]:
        yield 0
        ray.get(self._gate.passed.remote())
        yield 1

    def double_of(self, other: Any, value: int) -> int:
        doubled: int = got(other.double.remote(value))
        return doubled

    def counted(self, entity_type: str) -> tuple[float, float]:
        """What this actor's own process has sent to a type, and how many of those have ended."""
        of = {"entity_type": entity_type}
        now = snapshot()
        return now.value("cluster_messages_sent_total", **of), now.value(
            "cluster_message_latency_seconds", **of
        )


class AsyncWorker:
    """An asynchronous actor."""

    async def double(self, value: int = 1) -> int:
        await asyncio.sleep(0)
        return value * 2

    async def fail(self) -> None:
        raise LookupError

    async def forever(self) -> None:
        await asyncio.Event().wait()

    async def numbers(self, count: int, *, fail: bool = False) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        if fail:
            raise LookupError(count)


class Seen:
    """What this process has counted of one entity type since the test began."""

    def __init__(self, entity_type: str) -> None:
        self.entity_type = entity_type
        self._before = snapshot().totals

    def now(self) -> MetricsSnapshot:
        return MetricsSnapshot(subtract(snapshot().totals, self._before))

    def is_exactly(self, *, ok: int = 0, errors: dict[str, int] | None = None, in_flight: int = 0) -> None:
        """Sent, latencies by outcome and errors by type, and no other error."""
        errors = errors or {}
        now, of = self.now(), {"entity_type": self.entity_type, "operation": "send"}
        latency = "cluster_message_latency_seconds"
        found = {
            point.labels["type"]: int(point.value)
            for point in now
            if point.name == "cluster_errors_total" and point.labels["entity_type"] == self.entity_type
        }
        assert {kind: count for kind, count in found.items() if count} == errors
        assert now.value(latency, **of, outcome="ok") == ok
        assert now.value(latency, **of, outcome="error") == sum(errors.values())
        assert now.value("cluster_messages_sent_total", **of) == ok + sum(errors.values()) + in_flight

    def ended(self, count: int, within_s: float = 10.0) -> None:
        """Wait until so many calls have ended: for those whose answer nobody waits for."""
        deadline = time.monotonic() + within_s
        of = {"entity_type": self.entity_type}
        while self.now().value("cluster_message_latency_seconds", **of) < count:
            assert time.monotonic() < deadline, self.now().totals
            time.sleep(0.005)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """Counts under a label of the test's own."""
    return Seen(request.node.name.removeprefix("test_")[:100])


def actor(cls: type, *arguments: Any, **options: Any) -> Any:
    """A plain handle of a new actor."""
    return ray.remote(cls).options(num_cpus=0, **options).remote(*arguments)


@pytest.fixture(scope="module")
def gate(ray_instance: None) -> Any:
    """A gate that stays shut: what waits there is ended by force."""
    return actor(Gate)


@pytest.fixture(scope="module")
def plain(gate: Any) -> Any:
    """The plain handle of a synchronous actor that no test ends."""
    return actor(Worker)


@pytest.fixture(scope="module")
def plain_async(ray_instance: None) -> Any:
    """The plain handle of an asynchronous actor that no test ends."""
    return actor(AsyncWorker)


def got(reference: Any) -> Any:
    """The value, or values."""
    return ray.get(reference)


def until_waiting(gate: Any, count: int) -> None:
    """Wait until so many calls have come to the gate since it was made."""
    deadline = time.monotonic() + 10
    while got(gate.waiting.remote()) < count:
        assert time.monotonic() < deadline


def test_calls_are_counted_when_their_answers_are_there(plain: Any, seen: Seen) -> None:
    """A reading after the answers has them all: sent, latency, and no error."""
    wrapped = instrument(plain, seen.entity_type)
    started_s = time.perf_counter()
    references = [wrapped.double.remote(number) for number in range(100)]
    assert all(type(reference) is ray.ObjectRef for reference in references)
    assert ray.get(references) == [2 * number for number in range(100)]
    passed_s = time.perf_counter() - started_s
    seen.is_exactly(ok=100)
    latency = seen.now().histogram("cluster_message_latency_seconds", entity_type=seen.entity_type)
    assert 0 < latency.sum < 100 * passed_s


def test_the_default_label_is_the_name_of_the_class(ray_instance: None) -> None:
    """Neither its module nor the function around it is part of it."""

    class Inner:
        def ping(self) -> int:
            return 1

    seen = Seen("Inner")
    assert got(instrument(actor(Inner)).ping.remote()) == 1
    seen.is_exactly(ok=1)


def test_what_the_method_raises_is_a_handler_error(plain: Any, seen: Seen) -> None:
    """Counted once, though the reference is asked again and again; the caller gets the exception as ever."""
    wrapped = instrument(plain, seen.entity_type)
    reference = wrapped.fail.remote()
    for _ in range(3):
        with pytest.raises(RayTaskError, match="LookupError") as caught:
            ray.get(reference)
        assert isinstance(caught.value, LookupError)
    seen.is_exactly(errors={"HandlerError": 1})


def test_asynchronous_actors_count_alike(plain_async: Any, seen: Seen) -> None:
    """Values, exceptions, and a call that was cancelled while it ran."""
    wrapped = instrument(plain_async, seen.entity_type)
    assert ray.get([wrapped.double.remote(number) for number in range(20)]) == list(range(0, 40, 2))
    with pytest.raises(LookupError):
        ray.get(wrapped.fail.remote())
    cancelled = wrapped.forever.remote()
    ray.get(wrapped.double.remote())  # by now the other one has started
    ray.cancel(cancelled)
    with pytest.raises((TaskCancelledError, RayTaskError)):
        ray.get(cancelled)
    seen.is_exactly(ok=21, errors={"HandlerError": 1, "Cancelled": 1})


def test_threaded_actors_count_alike(seen: Seen) -> None:
    """With calls that end in another order than they were sent."""
    gate = actor(Gate)
    wrapped = instrument(actor(Worker, gate, max_concurrency=3), seen.entity_type)
    held = wrapped.held.remote()
    assert ray.get([wrapped.double.remote(number) for number in range(10)]) == list(range(0, 20, 2))
    seen.is_exactly(ok=10, in_flight=1)
    ray.get(gate.open.remote())
    assert ray.get(held) == "let go"
    seen.is_exactly(ok=11)


def test_awaiting_counts_alike(plain: Any, seen: Seen) -> None:
    """A reference that is awaited is no other than one that is got."""
    wrapped = instrument(plain, seen.entity_type)

    async def main() -> int:
        doubled: int = await wrapped.double.remote(4)
        return doubled

    assert asyncio.run(main()) == 8
    seen.is_exactly(ok=1)


def test_a_full_handle_refuses_at_once(seen: Seen, gate: Any) -> None:
    """The limit of pending calls is a full mailbox: counted, and raised by `.remote()` as ever."""
    wrapped = instrument(actor(Worker, gate, max_pending_calls=1), seen.entity_type)
    held = wrapped.held.remote()
    with pytest.raises(PendingCallsLimitExceeded):
        wrapped.double.remote()
    seen.is_exactly(errors={"MailboxFull": 1}, in_flight=1)
    ray.kill(wrapped)
    with pytest.raises(ActorDiedError):
        ray.get(held)
    seen.is_exactly(errors={"MailboxFull": 1, "RunnerUnavailable": 1})


def test_what_cannot_be_sent_is_malformed(plain: Any, seen: Seen) -> None:
    """Arguments that do not bind, or can't be pickled, raise at `.remote()` as ever."""
    wrapped = instrument(plain, seen.entity_type)
    with pytest.raises(TypeError):
        wrapped.double.remote(threading.Lock())
    with pytest.raises(TypeError):
        wrapped.double.remote(1, 2, 3)
    with pytest.raises(AttributeError):
        wrapped.no_such_method  # noqa: B018  no call, and not counted
    seen.is_exactly(errors={"MalformedMessage": 2})


def test_a_value_that_cannot_come_back_is_malformed(plain: Any, seen: Seen) -> None:
    """Also if it is but one of several."""
    wrapped = instrument(plain, seen.entity_type)
    with pytest.raises(TypeError):
        ray.get(wrapped.lock.remote())
    first, _ = wrapped.half_a_pair.options(num_returns=2).remote(first=True)
    assert ray.get(first) == 1
    seen.ended(2)
    wrapped.half_a_pair.options(num_returns=2).remote(first=False)
    seen.ended(3)
    seen.is_exactly(errors={"MalformedMessage": 3})


def test_several_return_values_are_one_message(plain: Any, seen: Seen) -> None:
    """Two references, one call; it ends once, well or not."""
    wrapped = instrument(plain, seen.entity_type)
    first, second = wrapped.pair.options(num_returns=2, name="both").remote()
    assert ray.get([first, second]) == [1, 2]
    for reference in wrapped.fail.options(num_returns=2).remote():
        with pytest.raises(LookupError):
            ray.get(reference)
    seen.is_exactly(ok=1, errors={"HandlerError": 1})


def test_calls_without_return_value_end_too(plain: Any, seen: Seen) -> None:
    """They return None as ever; a value nobody wants is no failure, an exception is one."""
    wrapped = instrument(plain, seen.entity_type)
    assert wrapped.double.options(num_returns=0).remote() is None
    assert wrapped.lock.options(num_returns=0).remote() is None
    assert wrapped.fail.options(num_returns=0).remote() is None
    seen.ended(3)
    seen.is_exactly(ok=2, errors={"HandlerError": 1})


@pytest.mark.filterwarnings("ignore:num_returns='dynamic' is deprecated")
def test_dynamic_return_values_are_one_message(plain: Any, seen: Seen) -> None:
    """One reference to all of them."""
    wrapped = instrument(plain, seen.entity_type)
    reference = wrapped.numbers.options(num_returns="dynamic").remote(3)
    assert [ray.get(item) for item in ray.get(reference)] == [0, 1, 2]
    seen.is_exactly(ok=1)


@pytest.mark.parametrize("kind", ["plain", "plain_async"])
def test_a_stream_ends_when_it_has_run_and_been_read(kind: str, request: pytest.FixtureRequest) -> None:
    """One message for the whole stream, which is Ray's own generator."""
    seen = Seen(f"stream of {kind}")
    wrapped = instrument(request.getfixturevalue(kind), seen.entity_type)
    stream = wrapped.numbers.remote(3)
    assert isinstance(stream, ray.ObjectRefGenerator)
    ray.get(stream.completed())
    assert got(next(stream)) == 0
    seen.is_exactly(in_flight=1)
    assert [ray.get(item) for item in stream] == [1, 2]
    seen.is_exactly(ok=1)


@pytest.mark.parametrize("kind", ["plain", "plain_async"])
def test_an_exception_in_a_stream_is_counted_once(kind: str, request: pytest.FixtureRequest) -> None:
    """Ray reports such a call as done; its last item is the exception."""
    seen = Seen(f"failing stream of {kind}")
    wrapped = instrument(request.getfixturevalue(kind), seen.entity_type)
    stream = wrapped.numbers.remote(2, fail=True)
    assert [ray.get(next(stream)) for _ in range(2)] == [0, 1]
    last = next(stream)
    with pytest.raises(LookupError):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(stream)
    ray.get(stream.completed())
    seen.is_exactly(errors={"HandlerError": 1})


def test_a_stream_can_be_read_asynchronously(plain_async: Any, seen: Seen) -> None:
    """`async for` counts as `for` does."""
    wrapped = instrument(plain_async, seen.entity_type)

    async def main(*, fail: bool) -> list[int]:
        return [await item async for item in wrapped.numbers.remote(3, fail=fail)]

    assert asyncio.run(main(fail=False)) == [0, 1, 2]
    with pytest.raises(LookupError):
        asyncio.run(main(fail=True))
    seen.ended(2)
    seen.is_exactly(ok=1, errors={"HandlerError": 1})


def test_a_stream_that_is_let_go_ends_when_it_has_run(seen: Seen) -> None:
    """Nobody reads it any more, so what counts is the run."""
    gate = actor(Gate)
    wrapped = instrument(actor(Worker, gate), seen.entity_type)
    stream = wrapped.held_numbers.remote()
    until_waiting(gate, 1)
    del stream
    seen.is_exactly(in_flight=1)
    ray.get(gate.open.remote())
    seen.ended(1)
    seen.is_exactly(ok=1)


def test_a_killed_actor_ends_its_calls_and_streams(seen: Seen, gate: Any) -> None:
    """Those in flight and those made afterwards: unavailable, each once."""
    wrapped = instrument(actor(Worker, gate, max_concurrency=2), seen.entity_type)
    came = got(gate.waiting.remote())
    held, stream = wrapped.held.remote(), wrapped.held_numbers.remote()
    until_waiting(gate, came + 2)
    ray.kill(wrapped)
    for reference in (held, wrapped.double.remote()):
        with pytest.raises(ActorDiedError):
            ray.get(reference)
    with pytest.raises(ActorDiedError):
        ray.get(stream.completed())
    seen.is_exactly(errors={"RunnerUnavailable": 3})


def test_a_cancelled_call_is_counted_as_cancelled(seen: Seen) -> None:
    """One that waits behind another and has not started."""
    gate = actor(Gate)
    wrapped = instrument(actor(Worker, gate), seen.entity_type)
    held, queued = wrapped.held.remote(), wrapped.double.remote()
    until_waiting(gate, 1)
    ray.cancel(queued)
    ray.get(gate.open.remote())
    with pytest.raises(TaskCancelledError):
        ray.get(queued)
    assert ray.get(held) == "let go"
    seen.is_exactly(ok=1, errors={"Cancelled": 1})


def test_a_reference_that_is_dropped_is_counted_all_the_same(plain: Any, seen: Seen) -> None:
    """Fire and forget: the call ends, and nothing holds its answer after that."""
    wrapped = instrument(plain, seen.entity_type)
    for _ in range(50):
        wrapped.double.remote()
        wrapped.large.remote()
    wrapped.fail.remote()
    seen.ended(101)
    seen.is_exactly(ok=100, errors={"HandlerError": 1})
    assert wrapped._observe_tally.in_flight == {}


def test_an_error_too_large_to_travel_along_is_seen_on_its_own_node(plain: Any, seen: Seen) -> None:
    """It lies in the object store as a large value does, and is told from one."""
    wrapped = instrument(plain, seen.entity_type)
    assert len(got(wrapped.large.remote())) == 1_000_000
    with pytest.raises(LookupError):
        ray.get(wrapped.fail.remote("x" * 300_000))
    seen.ended(2)
    seen.is_exactly(ok=1, errors={"HandlerError": 1})


def test_the_wrapper_is_a_handle_like_the_plain_one(plain: Any) -> None:
    """It equals, hashes and prints like it, has its methods and is taken for it by Ray."""
    wrapped = instrument(plain)
    assert isinstance(wrapped, ActorHandle)
    assert (wrapped == plain, hash(wrapped) == hash(plain), repr(wrapped)) == (True, True, repr(plain))
    assert set(dir(wrapped)) == set(dir(plain))
    with pytest.raises(TypeError, match=r"double\.remote"):
        wrapped.double()
    assert got(wrapped.__ray_ready__.remote()) is True


def test_instrumenting_twice_counts_once(plain: Any, seen: Seen) -> None:
    """The same again gives the same wrapper; another label replaces the first."""
    wrapped = instrument(plain, "never called")
    assert instrument(wrapped) is wrapped
    other = instrument(wrapped, seen.entity_type)
    before = Seen("never called")
    assert got(other.double.remote(1)) == 2
    seen.is_exactly(ok=1)
    before.is_exactly()


def test_the_actor_lives_as_long_as_its_wrapper(seen: Seen) -> None:
    """The plain handle may be dropped; with the wrapper the actor goes."""
    gate = actor(Gate)
    other = instrument(gate, seen.entity_type)
    del gate
    assert got(other.waiting.remote()) == 0
    method = other.waiting
    del other
    assert got(method.remote()) == 0  # a method of it keeps it too
    seen.is_exactly(ok=2)


def test_named_and_detached_actors_count_alike(seen: Seen) -> None:
    """A handle found by name is as good as the first one."""
    made = actor(Worker, name="instrumented", lifetime="detached", namespace="tests")
    try:
        found: Any = instrument(ray.get_actor("instrumented", namespace="tests"), seen.entity_type)
        assert got(found.double.remote(3)) == 6
        seen.is_exactly(ok=1)
    finally:
        ray.kill(made)


@ray.remote(num_cpus=0)
def call_there(handle: Any, nested: list[Any], times: int) -> tuple[Any, float, float]:
    """Call through a handle given as an argument and through one inside of an argument."""
    for _ in range(times):
        ray.get([handle.double.remote(), nested[0].double.remote()])
    of = {"entity_type": handle._observe_tally.entity_type}
    now = snapshot()
    return (
        handle,
        now.value("cluster_messages_sent_total", **of),
        now.value("cluster_message_latency_seconds", **of),
    )


def test_a_wrapper_counts_in_the_process_it_arrives_in(plain: Any, seen: Seen) -> None:
    """As an argument, inside of one, through the object store and on its way back."""
    wrapped = instrument(plain, seen.entity_type)
    back, sent, ended = got(call_there.remote(wrapped, [ray.get(ray.put(wrapped))], 3))
    assert (sent, ended) == (6, 6)
    seen.is_exactly()
    assert got(back.double.remote(2)) == 4
    seen.is_exactly(ok=1)


def test_an_actor_counts_what_it_calls(plain: Any, seen: Seen) -> None:
    """Inside of an actor, plain or asynchronous, the wrapper is as good as in a driver."""
    caller = actor(Worker)
    assert got(caller.double_of.remote(instrument(plain, seen.entity_type), 4)) == 8
    assert got(caller.counted.remote(seen.entity_type)) == (1, 1)
    seen.is_exactly()


def test_a_method_travels_with_its_wrapper(plain: Any, seen: Seen) -> None:
    """A bound method pickles as that of a plain handle does, and counts."""
    method = got(ray.put([instrument(plain, seen.entity_type).double]))[0]
    assert got(method.remote(5)) == 10
    seen.is_exactly(ok=1)


def test_several_threads_lose_no_call(plain: Any, seen: Seen) -> None:
    """Eight threads on one wrapper, while another one reads."""
    wrapped = instrument(plain, seen.entity_type)
    done = threading.Event()

    def send() -> None:
        ray.get([wrapped.double.remote() for _ in range(100)])

    def read() -> None:
        while not done.is_set():
            snapshot()

    reader = threading.Thread(target=read)
    reader.start()
    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    done.set()
    reader.join()
    seen.is_exactly(ok=800)


def test_a_connected_process_reports_its_instrumented_calls(
    plain: Any, ray_cluster: Cluster, seen: Seen
) -> None:
    """They are in the cluster's metrics, without any other change."""
    counts = Counts(ray_cluster)
    wrapped = instrument(plain, seen.entity_type)
    ray.get([wrapped.double.remote() for _ in range(10)])
    with pytest.raises(LookupError):
        ray.get(wrapped.fail.remote())
    counts.refresh()
    of = {"entity_type": seen.entity_type}
    assert counts.of("cluster_messages_sent_total", **of) == 11
    assert counts.of("cluster_errors_total", **of, type="HandlerError") == 1
    counts.check_invariants(seen.entity_type)


def test_what_is_no_handle_is_refused(plain: Any) -> None:
    """The error names what was given, and what to give."""
    with pytest.raises(TypeError, match=r"actor class .*: start one with"):
        instrument(ray.remote(Worker))
    with pytest.raises(TypeError, match="give the handle whose method it is"):
        instrument(plain.double)
    with pytest.raises(TypeError, match="the class Worker"):
        instrument(Worker)


@pytest.mark.slow
def test_a_result_on_another_node_is_not_fetched() -> None:
    """Counted as ended, and the only copy is where it was made: in a cluster of two nodes of its own."""
    ran = subprocess.run([sys.executable, "-m", "tests.ray.far_results"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found == {"ended": 3, "copies": [1, 1, 1], "here": [False, False, False]}
