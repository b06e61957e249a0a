"""What plain Ray raises when real things go wrong, and what it is counted as."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, PendingCallsLimitExceeded

from observe.failure import classify, may_have_run

pytestmark = pytest.mark.ray


def explode() -> None:
    """What unpickling a `Bomb` calls."""
    raise ValueError("cannot be unpickled")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


@ray.remote
def lock() -> Any:
    """A task whose reply cannot be pickled."""
    return threading.Lock()


@ray.remote
def take(thing: Any) -> None:
    """A task with an argument."""


@ray.remote
def fail() -> None:
    """A task that raises."""
    raise LookupError("of its own")


@ray.remote(num_cpus=0)
class Plain:
    async def lock(self) -> Any:
        return threading.Lock()

    async def take(self, thing: Any) -> None:
        pass

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def fail(self) -> None:
        raise LookupError("of its own")


@pytest.fixture(scope="module")
def plain(ray_instance: None) -> Any:
    """An actor of plain Ray."""
    actors: Any = Plain
    return actors.remote()


def raised_by(reference: Any) -> BaseException:
    """The error that a call ends with."""
    with pytest.raises(Exception) as caught:  # which one is the question
        ray.get(reference, timeout=30)
    return caught.value


def test_a_reply_that_cannot_be_pickled_is_malformed(plain: Any) -> None:
    """From a task and from an actor's method: MalformedMessage, and the code had run."""
    for reference in (lock.remote(), plain.lock.remote()):
        error = raised_by(reference)
        assert classify(error) == "MalformedMessage"
        assert may_have_run(error)


def test_an_argument_that_cannot_be_unpickled_is_malformed(plain: Any) -> None:
    """At a task and at an actor's method: MalformedMessage, and the code did not run."""
    for reference in (take.remote(Bomb()), plain.take.remote(Bomb())):
        error = raised_by(reference)
        assert classify(error) == "MalformedMessage"
        assert not may_have_run(error)


def test_an_argument_that_cannot_be_pickled_is_malformed(plain: Any) -> None:
    """It never leaves the caller."""
    for method in (take, plain.take):
        with pytest.raises(TypeError) as caught:
            method.remote(threading.Lock())
        assert classify(caught.value) == "MalformedMessage"
        assert not may_have_run(caught.value)


def test_what_the_code_itself_raised_is_a_handler_error(plain: Any) -> None:
    """In a task and in an actor's method."""
    for reference in (fail.remote(), plain.fail.remote()):
        error = raised_by(reference)
        assert classify(error) == "HandlerError"
        assert may_have_run(error)


def test_a_cancelled_async_call_is_cancelled(plain: Any) -> None:
    """`ray.cancel` of a running method of an async actor."""
    waiting = plain.wait.remote()
    ray.get(plain.take.remote(0), timeout=30)
    ray.cancel(waiting)
    assert classify(raised_by(waiting)) == "Cancelled"


def test_too_many_pending_calls_are_a_full_mailbox(plain: Any) -> None:
    """`max_pending_calls` refuses where the call is made; nothing ran."""
    actors: Any = Plain
    bounded = actors.options(max_pending_calls=1).remote()
    waiting = bounded.wait.remote()
    with pytest.raises(PendingCallsLimitExceeded) as caught:
        bounded.take.remote(0)
    assert classify(caught.value) == "MailboxFull"
    assert not may_have_run(caught.value)
    ray.kill(bounded)
    assert classify(raised_by(waiting)) == "RunnerUnavailable"


def test_a_reply_that_is_not_there_in_time_is_a_timeout(plain: Any) -> None:
    """`ray.get` with a timeout."""
    with pytest.raises(GetTimeoutError) as caught:
        ray.get(plain.wait.remote(), timeout=0.01)
    assert classify(caught.value) == "Timeout"


def test_a_killed_actor_is_an_unavailable_runner(plain: Any) -> None:
    """Both the call that was running when it died and the one that came later: a kill is asked for, and not awaited."""
    waiting = plain.wait.remote()
    ray.get(plain.take.remote(0), timeout=30)
    ray.kill(plain)
    errors = [raised_by(waiting)]
    errors.append(raised_by(plain.take.remote(0)))
    for error in errors:
        assert isinstance(error, ActorDiedError)
        assert classify(error) == "RunnerUnavailable"
        assert may_have_run(error)
