"""A cluster for the replay's tests: one thread, no transport, and replies that come when somebody waits.

Entities are run for real and counted by a real recorder. A message waits in its entity's mailbox until its
reply, a later one, or room is waited for; a mailbox that is full refuses, as the cluster does. So what is in
flight is exact, and no test needs time to pass.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from entities import ClusterError, HandlerError, MailboxFull, MalformedMessage
from entities.address import check_entity_id
from entities.declaration import define
from observe.instruments import cluster
from observe.metrics import MetricsSnapshot
from observe.recorder import Recorder
from observe.totals import merge

__all__ = ["FakeCluster", "FakeReply", "FakeStatus"]


@dataclass
class FakeStatus:
    """Live entities by type."""

    entities: dict[str, int]


class FakeReply:
    """A reply that is there once the cluster got to its message."""

    def __init__(self, fake: FakeCluster, run: Callable[[], Any]) -> None:
        self._fake = fake
        self.run = run
        self.value: Any = None
        self.error: Exception | None = None
        self.settled = False

    def done(self) -> bool:
        return self.settled

    def result(self, timeout_s: float | None = None) -> Any:
        if not self.settled:
            self._fake.handle_until(self)
        if not self.settled:
            raise TimeoutError
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class FakeMessage:
    """A declared message of one entity, as a reference gives it."""

    fake: FakeCluster
    kind: type[Any]
    entity_id: str
    method: str
    timeout_s: float | None = None

    def options(self, *, timeout_s: float | None = None) -> FakeMessage:
        return FakeMessage(self.fake, self.kind, self.entity_id, self.method, timeout_s)

    def remote(self, *args: Any, **named: Any) -> FakeReply:
        return self.fake.send(self, args, named)


@dataclass(frozen=True)
class FakeReference:
    """A reference: its declared messages are its attributes."""

    fake: FakeCluster
    kind: type[Any]
    entity_id: str

    def __getattr__(self, name: str) -> FakeMessage:
        if name not in define(self.kind).messages:
            raise AttributeError(name)
        return FakeMessage(self.fake, self.kind, self.entity_id, name)


@dataclass
class FakeCluster:
    """Entities in this process.

    :ivar mailbox_capacity: messages that may wait for one entity.
    :ivar stuck: ids whose messages are never handled before all others are.
    :ivar most_open: the most messages that were ever in flight at a time.
    :ivar timeouts: the deadlines that messages were sent with.
    :ivar refusal: why no type can be registered.
    """

    mailbox_capacity: int = 4096
    stuck: frozenset[str] = frozenset()
    latency_s: float = 0.002
    live: dict[tuple[type[Any], str], Any] = field(default_factory=dict)
    log: list[tuple[str, str, str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    most_open: int = 0
    timeouts: set[float | None] = field(default_factory=set)
    closed: bool = False
    down: bool = False
    refusal: Exception | None = None

    def __post_init__(self) -> None:
        self.recorder = Recorder()
        self._queue: deque[tuple[tuple[type[Any], str], FakeReply]] = deque()
        self._waiting: Counter[tuple[type[Any], str]] = Counter()

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        return FakeReference(self, entity_type, check_entity_id(entity_id))

    def register(self, entity_type: type[Any]) -> None:
        if self.refusal is not None:
            raise self.refusal

    def wait_ready(self, reference: FakeReference, /) -> None:
        while self._waiting[reference.kind, reference.entity_id] >= self.mailbox_capacity:
            self.handle_until(self._queue[0][1])

    def metrics(self) -> MetricsSnapshot:
        self.handle_until(None)
        return MetricsSnapshot(merge([self.recorder.totals(), self.recorder.gauges()]))

    def states(self, entity_type: type[Any], /) -> Iterator[tuple[str, dict[str, Any]]]:
        self.handle_until(None)
        for (kind, entity_id), entity in list(self.live.items()):
            if kind is entity_type:
                yield entity_id, {name: value for name, value in vars(entity).items() if name[0] != "_"}

    def status(self) -> FakeStatus:
        # A copy in one step: the display asks from a thread of its own.
        return FakeStatus(dict(Counter(define(kind).name for kind, _ in list(self.live))))

    def shutdown(self) -> None:
        self.down = True

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def send(self, message: FakeMessage, args: tuple[Any, ...], named: dict[str, Any]) -> FakeReply:
        address = (message.kind, message.entity_id)
        name = define(message.kind).name
        self.timeouts.add(message.timeout_s)
        self.log.append((name, message.entity_id, message.method, args, named))
        reply = FakeReply(self, lambda: self._handle(address, message.method, args, named))
        with self.recorder.lock:
            self.recorder.counter(cluster.messages_sent, entity_type=name, operation="send").value += 1
        if self._waiting[address] >= self.mailbox_capacity:
            self._settle(name, reply, None, MailboxFull())
            return reply
        self._waiting[address] += 1
        self._queue.append((address, reply))
        self.most_open = max(self.most_open, len(self._queue))
        return reply

    def handle_until(self, wanted: FakeReply | None) -> None:
        """Handle what waits, in order, until `wanted` is done; all of it for None."""
        passed_over: list[tuple[tuple[type[Any], str], FakeReply]] = []
        while self._queue and (wanted is None or not wanted.settled):
            address, reply = self._queue.popleft()
            if address[1] in self.stuck and len(self._queue) > 0:
                passed_over.append((address, reply))
                continue
            self._run(address, reply)
        self._queue.extendleft(reversed(passed_over))

    def _run(self, address: tuple[type[Any], str], reply: FakeReply) -> None:
        self._waiting[address] -= 1
        name = define(address[0]).name
        try:
            value = reply.run()
        except ClusterError as error:
            self._settle(name, reply, None, error)
        except Exception as error:
            wrapped = HandlerError(str(error))
            wrapped.__cause__ = error
            self._settle(name, reply, None, wrapped)
        else:
            self._settle(name, reply, value, None)

    def _settle(self, name: str, reply: FakeReply, value: Any, error: Exception | None) -> None:
        reply.value, reply.error, reply.settled = value, error, True
        outcome = "ok" if error is None else "error"
        cell = self.recorder.histogram(
            cluster.message_latency, entity_type=name, operation="send", outcome=outcome
        )
        with self.recorder.lock:
            cell.record(self.latency_s)

    def _handle(
        self, address: tuple[type[Any], str], method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        definition = define(address[0])
        problem = definition.messages[method].binds(args, named)
        if problem is not None:
            raise MalformedMessage(problem)
        if address not in self.live:
            self.live[address] = address[0]()
            activations = self.recorder.counter(cluster.entity_activations, entity_type=definition.name)
            with self.recorder.lock:
                activations.value += 1
            if len([kind for kind, _ in self.live if kind is address[0]]) == 1:
                self._tell_live(address[0], definition.name)
        value = getattr(self.live[address], method)(*args, **named)
        return asyncio.run(value) if inspect.iscoroutine(value) else value

    def _tell_live(self, kind: type[Any], name: str) -> None:
        self.recorder.add_gauges(
            lambda: [
                (cluster.entities, {"entity_type": name}, float(sum(k is kind for k, _ in list(self.live))))
            ]
        )
