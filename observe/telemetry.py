"""Your own OpenTelemetry instruments and spans, made to leave by the same way as the cluster's.

In entities nothing has to be done: ``opentelemetry.metrics.get_meter(...)`` and ``opentelemetry.trace.get_tracer(...)``
work there, unless your code sets a provider of its own. A driver, or any other process that connects, says so once::

    from observe import telemetry
    telemetry.install()

What this process counts and traces then goes with its reports to its node's agent, is added up there with what the
other processes of the node count, and leaves under the scope you gave it, where the standard ``OTEL_*`` variables say.
It leaves while a connection is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from observe import tracing, user_instruments

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = ["install", "reader", "span_processor"]


def install(*, views: Sequence[View] = ()) -> None:
    """Set this process's MeterProvider to one whose instruments leave through the cluster, and its TracerProvider.

    Instruments and tracers that were made before begin to work with them. A TracerProvider of your own stays: give it
    `span_processor()`. Doing it again does nothing, in an entity's process too.

    :param views: views of the SDK, for other bucket edges, exponential ones or fewer attributes.
    :raises RuntimeError: another MeterProvider is set: give it `reader()` instead.
    """
    user_instruments.install(views)
    tracing.install()


def reader() -> MetricReader:
    """A reader for a MeterProvider of your own: ``MeterProvider(metric_readers=[telemetry.reader(), ...])``.

    There is one for a process, so it can be given to one provider only.
    """
    return user_instruments.reader()


def span_processor() -> SpanProcessor:
    """A processor for a TracerProvider of your own: ``provider.add_span_processor(telemetry.span_processor())``."""
    return tracing.span_processor()
