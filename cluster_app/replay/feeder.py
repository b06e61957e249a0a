"""Messages out, replies in: as fast as the cluster takes them, and no faster.

It decides how many messages are in flight and how replies are counted. Two bounds hold it back: the cluster's
own room for one more message to that entity (`wait_ready`), so that a replay never refuses itself; and its
own window, so that neither memory nor latency grows with the file. A slow entity holds its own places in the
window, not its neighbours': whatever is done is counted, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cluster_app.replay.port import ReplayCluster, Reply
from observe.failure import classify

__all__ = ["IN_FLIGHT", "Feeder", "Route"]

# Messages. Below the default mailbox capacity, so that one slow entity alone cannot fill its own.
IN_FLIGHT = 4_000
REFERENCES = 100_000  # kept per route; beyond, they are made again when needed
WAIT_S = 0.02  # one reply is awaited no longer before the others are looked at


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
        self._open: list[Reply] = []

    def route(self, kind: type[Any], method: str) -> Route:
        """The way to one message of one entity type."""
        ids = self.fed.setdefault(kind, set()) if self._remember else None
        return Route(self, self._cluster, kind, method, self._timeout_s, ids)

    def sending(self) -> list[Reply]:
        """Count one message about to leave, waiting when the window is full; return where its reply goes."""
        if len(self._open) >= self._in_flight:
            # By a quarter at a stroke: to look at all of them for every single message would cost more than
            # sending.
            self._settle(self._in_flight * 3 // 4)
        self.sent += 1
        return self._open

    def finish(self) -> None:
        """Wait until every reply is there. Each message has a deadline, so each ends."""
        self._settle(0)

    def _settle(self, at_most: int) -> None:
        # The list stays the same object: sending() hands it out.
        window = self._open
        while True:
            pending = []
            for reply in window:
                if reply.done():
                    try:
                        reply.result()
                    except Exception as error:
                        self.errors[classify(error)] += 1
                else:
                    pending.append(reply)
            self.settled += len(window) - len(pending)
            window[:] = pending
            self._tick()
            if len(window) <= at_most:
                return
            # One in the middle tells most of how far things are; the oldest may be one that takes its time.
            with suppress(Exception):
                window[len(window) // 2].result(WAIT_S)


class Route:
    """The way to one message of one entity type; `send` is the replay's hot loop."""

    __slots__ = ("_bound", "_cluster", "_ids", "_kind", "_method", "_sending", "_timeout_s", "_wait_ready")

    def __init__(
        self,
        feeder: Feeder,
        cluster: ReplayCluster,
        kind: type[Any],
        method: str,
        timeout_s: float | None,
        ids: set[str] | None,
    ) -> None:
        self._cluster = cluster
        self._sending = feeder.sending
        self._wait_ready = cluster.wait_ready
        self._kind = kind
        self._method = method
        self._timeout_s = timeout_s
        self._ids = ids
        self._bound: dict[str, tuple[Any, Callable[..., Reply]]] = {}

    def send(self, entity_id: str, /, *args: object, **named: object) -> None:
        """Send one message when there is room for it. Raises ValueError for an id that is none."""
        bound = self._bound.get(entity_id)
        if bound is None:
            bound = self._bind(entity_id)
        reference, remote = bound
        replies = self._sending()
        self._wait_ready(reference)
        replies.append(remote(*args, **named))

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
