"""Messages out, replies in: as fast as the cluster takes them, and no faster.

It decides how many messages are in flight and how replies are counted. Two bounds hold it back: the cluster's
own room for one more message to that entity (`wait_ready`), so that a replay never refuses itself; and its own
window, so that neither memory nor latency grows with the file. Replies are taken in the order they end: a slow
entity holds its own place in the window, not its neighbours' replies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from cluster_app.replay.port import ReplayCluster, Reply
from observe.failure import classify

__all__ = ["IN_FLIGHT", "Feeder", "Route"]

IN_FLIGHT = 4_000  # messages; below the default mailbox capacity, so one slow entity alone cannot fill its own
REFERENCES = 100_000  # kept per route; beyond, they are made again when needed
WAIT_S = 0.1  # how long the progress may stand still while replies are awaited


def _nothing() -> None:
    pass


class Feeder:
    """Sends to a cluster and counts what comes back.

    :ivar sent: messages sent.
    :ivar settled: messages whose reply is there, be it a value or an error.
    :ivar errors: replies that were errors, by reason.
    :ivar fed: ids by class, of every entity that got a message; only when `remember` is on.
    """

    def __init__(
        self,
        cluster: ReplayCluster,
        *,
        in_flight: int = IN_FLIGHT,
        timeout_s: float | None = None,
        remember: bool = False,
        tick: Callable[[], None] = _nothing,
    ) -> None:
        self.sent = 0
        self.settled = 0
        self.errors: Counter[str] = Counter()
        self.fed: dict[type[Any], set[str]] = {}
        self._cluster = cluster
        self._in_flight = in_flight
        self._timeout_s = timeout_s
        self._remember = remember
        self._tick = tick
        # Replies come from the client's threads; put() is one step in C and safe from any of them.
        self._done: SimpleQueue[Reply] = SimpleQueue()

    def route(self, kind: type[Any], method: str) -> Route:
        """The way to one message of one entity type."""
        ids = self.fed.setdefault(kind, set()) if self._remember else None
        return Route(self, self._cluster, kind, method, self._timeout_s, ids, self._done.put)

    def sending(self) -> None:
        """Count one message about to leave, and wait when the window is full."""
        self.sent += 1
        if self.sent - self.settled > self._in_flight:
            # Down to three quarters at a stroke: waking up for every single reply would cost more than the message.
            self._settle(self._in_flight * 3 // 4)

    def finish(self) -> None:
        """Wait until every reply is there. Each message has a deadline, so each ends."""
        self._settle(0)

    def _settle(self, open_at_most: int) -> None:
        done, ready = self._done, self._done.qsize()
        while ready or self.sent - self.settled > open_at_most:
            try:
                reply = done.get(timeout=WAIT_S)
            except Empty:
                self._tick()
                continue
            try:
                reply.result(0)
            except Exception as error:
                self.errors[classify(error)] += 1
            self.settled += 1
            if ready:
                ready -= 1
        self._tick()


class Route:
    """The way to one message of one entity type; `send` is the replay's hot loop."""

    __slots__ = ("_bound", "_cluster", "_feeder", "_ids", "_kind", "_method", "_put", "_timeout_s")

    def __init__(
        self,
        feeder: Feeder,
        cluster: ReplayCluster,
        kind: type[Any],
        method: str,
        timeout_s: float | None,
        ids: set[str] | None,
        put: Callable[[Any], object],
    ) -> None:
        self._feeder = feeder
        self._cluster = cluster
        self._kind = kind
        self._method = method
        self._timeout_s = timeout_s
        self._ids = ids
        self._put = put
        self._bound: dict[str, tuple[Any, Callable[..., Reply]]] = {}

    def send(self, entity_id: str, /, *args: object, **named: object) -> None:
        """Send one message when there is room for it. Raises ValueError for an id that is none."""
        bound = self._bound.get(entity_id)
        if bound is None:
            bound = self._bind(entity_id)
        reference, remote = bound
        self._feeder.sending()
        self._cluster.wait_ready(reference)
        remote(*args, **named).add_done_callback(self._put)

    def _bind(self, entity_id: str) -> tuple[Any, Callable[..., Reply]]:
        if len(self._bound) >= REFERENCES:
            self._bound.clear()
        reference = self._cluster.entity(self._kind, entity_id)
        message = getattr(reference, self._method)
        if self._timeout_s is not None:
            message = message.options(timeout_s=self._timeout_s)
        bound = self._bound[entity_id] = (reference, message.remote)
        if self._ids is not None:
            self._ids.add(entity_id)
        return bound
