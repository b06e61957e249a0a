"""One way out for a node's spans: the SDK's batch processor and one of its exporters, fed by a thread.

Decides that nobody waits for a collector, and what is dropped when one is slow: the oldest, counted. Spans that an
exporter gives up are lost, as everywhere in OpenTelemetry: unlike counts they are told once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from observe.export_status import ExportStatus
from observe.readable_spans import readable
from observe.spans import Span
from observe.way_out import WayOut, described

__all__ = ["SpanExporting"]

logger = logging.getLogger(__name__)

_MOST = 20_000
_OLDEST_NS = 600 * 1_000_000_000
_PORTION = 256


class SpanExporting(WayOut):
    """Exports spans by one exporter. `ExportStatus.dropped` counts spans here.

    :param make: loads and makes the exporter, on the thread: it may take long, and may raise.
    :param queue: spans that wait in the SDK's processor at most.
    :param batch: spans in one export at most.
    :param reason: what the exporter has logged of its last failure in this thread, if anything.
    :param clock: seconds, for the times between log lines.
    :param now_ns: Unix time.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], SpanExporter],
        resource: Resource,
        version: str,
        *,
        endpoint: str = "",
        queue: int = 2048,
        batch: int = 512,
        reason: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._make = make
        self._resource = resource
        self._version = version
        self._queue = queue
        self._batch = batch
        self._reason = reason
        self._now_ns = now_ns
        super().__init__(ExportStatus(f"{name} (traces)", endpoint), f"cluster-app-spans-{name}", clock)
        self._waiting: deque[Span] = deque()
        self._since_flush = 0
        self._processor: BatchSpanProcessor | None = None

    def take(self, spans: Iterable[Span]) -> None:
        """Export these, some time. Never blocks."""
        with self._condition:
            if self._over:
                return
            self._waiting.extend(spans)
            excess = len(self._waiting) - _MOST
            for _ in range(excess):
                self._waiting.popleft()
            self._condition.notify_all()
        if excess > 0:
            self._dropped(excess, "more came than leave")

    # -- on the thread

    def _export_until_told(self) -> None:
        try:
            # By hand, for the SDK reads these from the environment with words of its own about what it cannot use.
            self._processor = BatchSpanProcessor(
                _Watched(self._make(), self._exported, self._reason),
                max_queue_size=self._queue,
                max_export_batch_size=self._batch,
            )
        except Exception as error:
            self._status = replace(self._status, error=f"cannot be used: {error}")
            logger.error("spans do not leave by %s: %s", self._status.exporter, self._status.error)
        else:
            self._go_on(self._processor)
            self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _left(self) -> None:
        self._waiting.clear()

    def _go_on(self, processor: BatchSpanProcessor) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._ending or self._asked > self._done)
                portion = [
                    self._waiting.popleft() for _ in range(min(_PORTION, self._queue, len(self._waiting)))
                ]
                asked, ending = self._asked, self._ending
                last = not self._waiting
            self._hand_on(processor, portion)
            if last and (asked > self._done or ending):
                processor.force_flush()
                self._since_flush = 0
                self._has_done(asked)
                with self._condition:
                    if ending and not self._waiting:
                        return

    def _hand_on(self, processor: BatchSpanProcessor, portion: list[Span]) -> None:
        too_old_ns = self._now_ns() - _OLDEST_NS
        young = [span for span in portion if span.end_ns >= too_old_ns]
        if len(young) < len(portion):
            self._dropped(len(portion) - len(young), "they waited too long")
        if self._since_flush + len(young) > self._queue:
            processor.force_flush()  # else the processor would drop what does not fit
            self._since_flush = 0
        for span in young:
            processor.on_end(readable(span, self._resource, self._version))
        self._since_flush += len(young)

    def _exported(self, count: int, failure: str | None) -> None:
        if failure is None:
            self._status = replace(
                self._status,
                exports=self._status.exports + 1,
                failures=0,
                error="",
                last_success_unix_s=self._now_ns() / 1e9,
            )
        else:
            self._status = replace(self._status, failures=self._status.failures + 1, error=failure)
            self._dropped(count, failure)

    def _dropped(self, count: int, why: str) -> None:
        status = self._status = replace(self._status, dropped=self._status.dropped + count)
        self._warn(
            "spans of this node do not leave by %s to %s: %s (dropped so far: %d); messages go on",
            status.exporter,
            status.endpoint or "there",
            why,
            status.dropped,
        )


class _Watched(SpanExporter):
    """An exporter of whose every export somebody hears: how many spans, and what went wrong."""

    def __init__(
        self,
        exporter: SpanExporter,
        told: Callable[[int, str | None], None],
        reason: Callable[[], str | None],
    ) -> None:
        self._exporter = exporter
        self._told = told
        self._reason = reason

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See the SDK, as for all that follows."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            self._told(len(spans), described(error))
            return SpanExportResult.FAILURE
        why = self._reason() or "the exporter gave no reason"
        self._told(len(spans), None if result is SpanExportResult.SUCCESS else why)
        return result

    def shutdown(self) -> None:
        """End."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have nothing wait."""
        return self._exporter.force_flush(timeout_millis)
