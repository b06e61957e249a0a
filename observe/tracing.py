"""The user's own spans in this process: what OpenTelemetry's tracers make leaves by the node's agent, beside ours.

Decides when a TracerProvider is set for them: in a process that holds entities once their code uses OpenTelemetry's
traces, in any other when it is asked for (`observe.telemetry`). A provider that the user has set is never replaced.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from observe.sampling import is_disabled
from observe.trace_variables import spans_leave
from observe.traces import process_traces

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = ["install", "offer", "offer_again", "span_processor"]

_API = "opentelemetry.trace"
_lock = threading.Lock()
_offered = _installed = False


def offer() -> None:
    """This process holds entities: as soon as their code uses OpenTelemetry's traces, have them leave.

    To be called when code has been loaded. Nothing happens where no exporter of spans is configured, or the user has
    set a provider.
    """
    global _offered
    _offered = spans_leave(os.environ)
    offer_again()


def offer_again() -> None:
    """The same later, if it was offered: code may come to use traces at any time. Costs next to nothing."""
    if _offered and not _installed and _API in sys.modules:
        install()


def install() -> bool:
    """Set a TracerProvider whose spans leave by this process's reports, sampled by ``OTEL_TRACES_SAMPLER``.

    :returns: whether it is set; no when there is another, or OpenTelemetry is switched off. Again: nothing more.
    """
    global _installed
    from opentelemetry import trace

    with _lock:
        if _installed or is_disabled(os.environ):
            return _installed
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return False
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        # Whose spans they are says the agent's resource. Nothing is to be sent at exit: the last report does that.
        own = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        own.add_span_processor(span_processor())
        trace.set_tracer_provider(own)
        _installed = trace.get_tracer_provider() is own
        return _installed


def span_processor() -> SpanProcessor:
    """A processor whose ended spans leave by this process's reports."""
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from observe.readable_spans import recorded

    class ToAgent(SpanProcessor):
        """Keeps what has ended until the agent has it."""

        def on_end(self, span: ReadableSpan) -> None:
            kept = recorded(span)
            if kept is not None:
                process_traces.spans.add(kept)

    return ToAgent()
