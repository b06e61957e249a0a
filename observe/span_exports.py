"""All ways out for a node's spans.

Decides which spans of a report are new: a process tells those again whose arrival it is not sure of.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from observe.export_status import ExportStatus
from observe.exporter_session import session_arguments
from observe.report import Report
from observe.span_batch import SpanPart, read
from observe.spans import Span
from observe.trace_variables import read_trace_variables
from observe.ways_out import Node, WaysOut, exporter_class

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from observe.span_export import SpanExporting

__all__ = ["SpanExports"]

logger = logging.getLogger(__name__)

_MOST_PROCESSES = 10_000


class SpanExports(WaysOut["SpanExporting"]):
    """The exporters of one node's spans.

    :param environ: this process's environment. Variables that are of no use are taken out of it.
    """

    def __init__(
        self,
        node_id: str,
        session: str,
        version: str,
        *,
        namespace: str | None = None,
        environ: MutableMapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        variables = read_trace_variables(environ)
        super().__init__(variables.unusable, environ)
        self._next: dict[str, int] = {}
        self._lost = 0

        def way(name: str, resource: Resource, reason: Callable[[], str | None]) -> SpanExporting:
            from observe.span_export import SpanExporting

            return SpanExporting(
                name,
                lambda: _made(name),
                resource,
                version,
                endpoint=variables.endpoints.get(name, ""),
                queue=variables.queue,
                batch=variables.batch,
                reason=reason,
            )

        self._begin(variables.exporters, Node(node_id, session, version, namespace), way)

    @property
    def status(self) -> list[ExportStatus]:
        """How each of them goes; `dropped` counts spans, also those that processes dropped before they could report."""
        return [replace(state, dropped=state.dropped + self._lost) for state in super().status]

    def take(self, report: Report) -> None:
        """Export the spans of a report that have not come yet. Never blocks."""
        if not self._running:
            return
        batch = report.spans
        due = self._next.pop(report.process, batch.first)
        if batch.end > due:
            new: list[Span] = []
            number = batch.first
            for part in batch.parts:
                if number >= due:  # parts are told again as they were
                    new += _read(part)
                number += part.size
            self._lost += batch.end - due - len(new)
            for exporting in self._running:
                exporting.take(new)
        self._next[report.process] = max(due, batch.end)
        if len(self._next) > _MOST_PROCESSES:  # the one that has been silent for longest has ended long ago
            del self._next[next(iter(self._next))]


def _read(part: SpanPart) -> list[Span]:
    readable: list[Span] = []
    try:
        for span in read(part):
            if isinstance(span, Span):
                readable.append(span)
            else:
                _cannot_be_read(span)
    except Exception as error:
        _cannot_be_read(error)
    return readable


def _cannot_be_read(error: Exception) -> None:
    logger.warning("a span cannot be read here, and does not leave: %s: %s", type(error).__name__, error)


def _made(name: str) -> Any:
    """An exporter by its entry point. Raises ValueError for one that is not there."""
    cls = exporter_class("opentelemetry_traces_exporter", "OTEL_TRACES_EXPORTER", name)
    return cls(**session_arguments(name, "TRACES"))
