"""Spans that have ended, as a process keeps them until its node's agent has them.

Decides which are dropped when too many wait or wait too long: the oldest. A span that ends is only noted, and told when
somebody looks or some have been noted: together that is faster, and they wait as bytes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from observe.regular_spans import RegularSpan
from observe.span_batch import SpanBatch, SpanPart, written
from observe.spans import Span

__all__ = ["SpanBuffer", "Untold"]

logger = logging.getLogger(__name__)

_MOST = 20_000
# So few that the garbage collector sees none of them grow old: kept for a second, those of some thousand messages bring
# about a full collection, which in a process that has loaded Ray costs more than all the rest of a sampled message.
_TOGETHER = 64
_PARTS = 32  # that many spans are in at least: of too many, not all are dropped at once
_OLDEST_NS = 300 * 1_000_000_000


class Untold(Protocol):
    """What has ended and knows its spans; it is one object until then, for many wait."""

    def told(self, zero_ns: int) -> Sequence[Span | RegularSpan]:
        """Its spans. Called once, on any thread and soon.

        :param zero_ns: the Unix time at which the process's clock stood at 0.
        """
        ...


class _Waiting(NamedTuple):
    part: SpanPart
    end_ns: int  # of the last of them


class SpanBuffer:
    """The ended spans of one process. Any thread may add one.

    :param zero_ns: what `Untold` is told, looked up anew each time: two clocks drift apart.
    :param most: so many wait at most; the oldest are dropped for more.
    :param oldest_ns: and none that ended longer ago than this, as far as those told together with it did.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        zero_ns: Callable[[], int] = lambda: 0,
        most: int = _MOST,
        oldest_ns: int = _OLDEST_NS,
    ) -> None:
        self._now_ns = now_ns
        self._zero_ns = zero_ns
        self._most = most
        self._in_a_part = max(1, most // _PARTS)
        self._oldest_ns = oldest_ns
        self._lock = threading.Lock()
        self._noted: deque[Span | Untold] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self._first = 0
        self._dropped = 0

    def add(self, noted: Span | Untold) -> None:
        """Keep a span, or those that this will tell, until they are taken."""
        self._noted.append(noted)
        if len(self._noted) >= _TOGETHER and self._lock.acquire(blocking=False):
            try:
                self._tell()
            finally:
                self._lock.release()

    def settle(self) -> None:
        """Have told what was noted."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        noted = self._noted
        if not noted:
            return
        zero_ns = self._zero_ns()
        while noted:  # with one thread at a time here, what is there can be taken
            spans: list[Span | RegularSpan] = []
            while noted and len(spans) < self._in_a_part:
                one = noted.popleft()
                try:
                    spans.extend([one] if isinstance(one, Span) else one.told(zero_ns))
                except Exception:  # it is a message's own thread: what is wrong with a span costs no message
                    logger.exception("a span cannot be told, and is left out")
            if not spans:
                continue
            last = spans[-1]  # they come as they end, or nearly so
            part = written(spans)
            self._waiting.append(_Waiting(part, last.end_ns if isinstance(last, Span) else last[7]))
            self._count += part.size
            while self._count > self._most:
                self._drop()

    @property
    def added(self) -> int:
        """How many have come so far, whatever has become of them."""
        with self._lock:
            self._tell()
            return self._first + self._count

    @property
    def dropped(self) -> int:
        """How many were dropped so far."""
        self.settle()
        return self._dropped

    def waiting(self) -> SpanBatch:
        """What is there; it stays until `taken`, so what did not arrive is told again under the same numbers."""
        with self._lock:
            self._tell()
            too_old_ns = self._now_ns() - self._oldest_ns
            while self._waiting and self._waiting[0].end_ns < too_old_ns:
                self._drop()
            return SpanBatch(self._first, tuple([waiting.part for waiting in self._waiting]))

    def taken(self, batch: SpanBatch) -> None:
        """A batch has arrived where it goes."""
        upto = batch.end
        with self._lock:
            while self._waiting and self._first < upto:
                self._go()

    def _drop(self) -> None:
        self._dropped += self._go()

    def _go(self) -> int:
        count = self._waiting.popleft().part.size
        self._count -= count
        self._first += count
        return count
