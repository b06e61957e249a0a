"""The reply to one message, before and after it is there.

Decides how a reply is waited for: from threads, asyncio loops and callbacks, without a lock or an event per
message until somebody really waits. Does not decide the outcome: the sender's client settles it, once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, NamedTuple, TypeVar, cast

__all__ = ["RUNNER_THREADS", "EntityResponse", "Resent", "Settlement", "settle"]

T_co = TypeVar("T_co", covariant=True)

# Threads that run a runner's event loop. Blocking one of them would stop every entity on it, for ever if the awaited
# entity is among them, so `.result()` refuses there.
RUNNER_THREADS: set[int] = set()

# Taken only when somebody waits: one lock for all replies is enough, and replies stay small.
_waiting = threading.Lock()


class Resent(NamedTuple):
    """What a message that is sent again carries from before.

    :ivar id: its first id.
    :ivar counted: a runner has counted it as received.
    :ivar times: how often it was sent again.
    :ivar may_have_run: it was with a runner that was lost.
    """

    id: str
    counted: bool = False
    times: int = 0
    may_have_run: bool = False


class EntityResponse(Generic[T_co]):
    """What ``.remote()`` returns: a reply that will be there, or an error.

    Await it, or call :meth:`result`. It ends exactly once. The slots without a public name belong to the client
    that carries the message: the reply is the record of its message, so a message costs one object.
    """

    __slots__ = (
        "_error",
        "_settled",
        "_value",
        "_waiters",
        "args",
        "cause",
        "deadline",
        "flight",
        "resent_as",
        "route",
        "sent_at",
    )

    def __init__(self, route: Any, args: Any, sent_at: float) -> None:
        self.route = route
        self.args = args
        self.sent_at = sent_at
        self.cause: Any = None
        self.deadline: float | None = None
        self.resent_as: Resent | None = None
        self.flight: int | None = None
        self._value: Any
        self._settled = False
        self._error: BaseException | None = None
        self._waiters: list[Any] | None = None

    def done(self) -> bool:
        """Whether the reply, or its error, is there."""
        return self._settled

    def result(self, timeout_s: float | None = None) -> T_co:
        """Block until the reply is there and return it, or raise its error.

        Raises the built-in :class:`TimeoutError` after `timeout_s` seconds; the message lives on. Raises
        :class:`RuntimeError` at once on a runner's event loop, where blocking would stop the entity awaited.
        """
        if not self._settled:
            if threading.get_ident() in RUNNER_THREADS:
                raise RuntimeError(
                    f"{self!r}: .result() would block the event loop that runs the entities; use 'await' in a handler"
                )
            arrived = threading.Event()
            self._when_settled(arrived.set)
            self.route.hurry()
            if not arrived.wait(timeout_s) and not self._settled:
                self._forget(arrived.set)
                raise TimeoutError(f"{self!r}: no reply within {timeout_s} s; the message lives on")
        return self._outcome()

    def __await__(self) -> Generator[Any, None, T_co]:
        if not self._settled:
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[None] = loop.create_future()
            self._when_settled(arrived)
            self.route.hurry_soon(loop)
            try:
                yield from arrived
            finally:
                if not self._settled:
                    self._forget(arrived)
        return self._outcome()

    def cancel(self) -> bool:
        """Ask that the message not run; False if the reply is already there.

        A queued message never runs, a running async handler gets :class:`asyncio.CancelledError`. The reply ends
        with :class:`entities.errors.Cancelled`, whose ``may_have_run`` says what is known.
        """
        return bool(self.route.cancel(self)) if not self._settled else False

    def add_done_callback(self, callback: Callable[[EntityResponse[T_co]], object]) -> None:
        """Call `callback(response)` once the reply is there; at once if it already is.

        It runs on whichever thread settles the reply and must not block: other replies wait behind it.
        """
        self._when_settled(lambda: callback(self))

    def exception(self) -> BaseException | None:
        """The error of a reply that is there, or None. Raises RuntimeError if it is not there yet."""
        if not self._settled:
            raise RuntimeError(f"{self!r} has no reply yet")
        return self._error

    def __repr__(self) -> str:
        state = (
            "pending" if not self._settled else "ok" if self._error is None else type(self._error).__name__
        )
        return f"<EntityResponse {self.route} {state}>"

    def _outcome(self) -> T_co:
        error: BaseException | None = self._error
        if error is not None:
            raise error
        return cast(T_co, self._value)

    def _when_settled(self, waiter: Any) -> None:
        with _waiting:
            if self._waiters is None:
                self._waiters = [waiter]
            else:
                self._waiters.append(waiter)
            # Looked at after the waiter is in place: the settling thread looks the other way round, so one of the
            # two always sees the other.
            if not self._settled:
                return
            waiters, self._waiters = self._waiters or [], None
        _wake(waiters)

    def _forget(self, waiter: Any) -> None:
        with _waiting:
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)


class Settlement:
    """Replies that end together: their waiters are woken with one hop per event loop, not one per reply."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Any] = []

    def end(self, response: EntityResponse[Any], value: Any, error: BaseException | None) -> None:
        """Give `response` its outcome. The caller makes sure that it has none yet."""
        response._value = value
        response._error = error
        response._settled = True
        response.args = response.cause = None  # arguments may be large; the reply may live long
        if response._waiters is not None:
            with _waiting:
                waiters, response._waiters = response._waiters, None
            if waiters:
                self._waiters.extend(waiters)

    def wake(self) -> None:
        """Wake everybody who waited for one of the replies."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            _wake(waiters)


def settle(response: EntityResponse[Any], value: Any, error: BaseException | None) -> None:
    """End one reply and wake its waiters."""
    settlement = Settlement()
    settlement.end(response, value, error)
    settlement.wake()


def _wake(waiters: Iterable[Any]) -> None:
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    elsewhere: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        if not isinstance(waiter, asyncio.Future):
            try:
                waiter()
            except Exception as error:  # a user's callback must not keep other replies from their waiters
                _report(waiter, error)
        elif waiter.get_loop() is here:
            if not waiter.done():
                waiter.set_result(None)
        else:
            elsewhere.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, futures in elsewhere.items():
        try:
            loop.call_soon_threadsafe(_arrive, futures)
        except RuntimeError:  # that loop is closed, so nobody waits there any more
            continue


def _arrive(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _report(waiter: Any, error: Exception) -> None:
    import logging

    logging.getLogger(__name__).error("a done-callback of a reply raised: %r", waiter, exc_info=error)
