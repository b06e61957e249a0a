"""A sender whose messages are recorded: what it asked of whom, and what became of each.

Sends from a thread of its own, one message after the other to each entity in turn, as fast as `per_s` says and with so
many under way at most; until it is told to stop. Then each message has its fate, and the record its end.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

from cluster_app import Cluster
from cluster_app.ray_calls import boottime
from entities.errors import ClusterError
from tests.chaos.checker import check
from tests.chaos.history import FileScribe, History
from tests.chaos.violation import Violation
from tests.exact_metrics import exact_metrics
from tests.nodes.recorded import folder_of

__all__ = ["Fate", "Load", "violations"]

_LAST_S = 60.0
_senders = itertools.count()


class Fate(NamedTuple):
    """What became of one message: when it was sent and when that was known, in seconds of CLOCK_BOOTTIME.

    :ivar error: why it failed; None: it did not.
    """

    sent_at: float
    at: float
    id: str
    error: BaseException | None


class Load:
    """Use it as a context manager: it sends inside the block, and when that is left all messages have a fate.

    :param references: of recorded entities.
    :param method: takes a token, and then `args`.
    :ivar fates: what is known by now, in the order in which it became known.
    """

    def __init__(
        self,
        namespace: str,
        references: Iterable[Any],
        method: str = "add",
        *args: Any,
        per_s: float = 100.0,
        under_way: int = 200,
    ) -> None:
        self.fates: list[Fate] = []
        self._references = list(references)
        self._method = method
        self._args = args
        self._per_s = per_s
        self._room = threading.Semaphore(under_way)
        self._under_way = under_way
        self._who = f"load-{os.getpid()}-{next(_senders)}"
        self._scribe = FileScribe(folder_of(namespace), self._who)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name=self._who)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        deadline = time.monotonic() + _LAST_S
        for _ in range(self._under_way):
            if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
                assert error is not None, f"after {_LAST_S} s there are messages without a fate"
                return

    def _send(self) -> None:
        for number in itertools.count():
            if self._over.wait(1 / self._per_s):
                return
            if not self._room.acquire(timeout=_LAST_S):
                return
            reference = self._references[number % len(self._references)]
            message = getattr(reference, self._method)
            address, token, sent_at = reference._address, f"{self._who}:{number}", boottime()
            self._scribe.note(
                "sent",
                sender=self._who,
                seq=number,
                token=token,
                type=address.type,
                id=address.id,
                method=self._method,
                idempotent=message.kind.idempotent,
            )

            def settled(
                reply: Any, token: str = token, sent_at: float = sent_at, entity_id: str = address.id
            ) -> None:
                error = reply.exception()
                self.fates.append(Fate(sent_at, boottime(), entity_id, error))
                if error is None:
                    self._scribe.note("fate", token=token, ok=True, value=reply.result())
                else:
                    said = error.reason if isinstance(error, ClusterError) else type(error).__name__
                    ran = error.may_have_run if isinstance(error, ClusterError) else True
                    self._scribe.note("fate", token=token, ok=False, reason=said, may_have_run=ran)
                self._room.release()

            message.remote(token, *self._args).add_done_callback(settled)

    def answered(self, more: int, within_s: float = 30.0) -> None:
        """Wait until so many more messages have been answered well."""
        wanted, deadline = self._well + more, time.monotonic() + within_s
        while self._well < wanted:
            assert time.monotonic() < deadline, f"after {within_s} s: {self._well} of {wanted}"
            time.sleep(0.005)

    @property
    def _well(self) -> int:
        return sum(fate.error is None for fate in list(self.fates))

    def note(self, e: str, /, **keys: Any) -> None:
        """Write an event of the test's own into the record."""
        self._scribe.note(e, **keys)

    def errors(self) -> list[BaseException]:
        """Why messages failed."""
        return [fate.error for fate in self.fates if fate.error is not None]

    def first_at(self, entity_id: str, sent_after: float) -> float:
        """When the first message to that entity which was sent after then had been answered well."""
        return min(
            f.at for f in self.fates if f.id == entity_id and f.error is None and f.sent_at > sent_after
        )

    def longest_s(self, since: float = 0.0, until: float = float("inf")) -> float:
        """How long a message took at most, of those sent then that did not fail."""
        took = [f.at - f.sent_at for f in self.fates if f.error is None and since <= f.sent_at < until]
        return max(took, default=0.0)


def violations(namespace: str, cluster: Cluster) -> list[Violation]:
    """What is wrong with all that was recorded of a cluster, and with its metrics; to be called once, at the end."""
    scribe = FileScribe(folder_of(namespace), "test")
    for point in exact_metrics(cluster):
        scribe.note("counts", name=point.name, labels=dict(point.labels), value=point.value)
    scribe.note("end")
    history = History.read(folder_of(namespace))
    assert history.of("activated") and history.of("fate"), "nothing was recorded"
    return check(history)
