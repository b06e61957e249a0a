"""The standard variables of OpenTelemetry that say whether and where spans leave; read and checked.

Decides which are set to something of use; what is not is told by name, and counts as not set. What metrics and spans
share is checked where metrics leave (`otel_variables`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from observe.otel_variables import bad_endpoint, exporters_named, without_password
from observe.sampling import is_disabled

__all__ = ["TraceVariables", "read_trace_variables", "spans_leave"]

_DEFAULT_ENDPOINTS = {
    "otlp_proto_grpc": "http://localhost:4317",
    "otlp_proto_http": "http://localhost:4318/v1/traces",
}
_OWN_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_QUEUE = 2048
_BATCH = 512


class TraceVariables(NamedTuple):
    """What the environment says.

    :ivar exporters: the entry points of the SDK's span exporters, in order; none: no span leaves.
    :ivar endpoints: where each OTLP exporter sends to, without user and password.
    :ivar queue: spans that wait for an export at most.
    :ivar batch: spans in one export at most.
    :ivar unusable: why each variable that is of no use is so; by name.
    """

    exporters: tuple[str, ...]
    endpoints: Mapping[str, str]
    queue: int
    batch: int
    unusable: Mapping[str, str]


def spans_leave(environ: Mapping[str, str]) -> bool:
    """Whether any exporter of spans is configured."""
    return bool(read_trace_variables(environ).exporters)


def read_trace_variables(environ: Mapping[str, str]) -> TraceVariables:
    """Read and check the variables. Raises nothing: one that is of no use is told in `TraceVariables.unusable`."""
    unusable: dict[str, str] = {}
    queue = _count(environ, "OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE, unusable)
    batch = _count(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(_BATCH, queue), unusable)
    if batch > queue:
        unusable["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = f"it is above OTEL_BSP_MAX_QUEUE_SIZE, so {queue}"
        batch = queue
    _count(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000, unusable)
    exporters = () if is_disabled(environ) else exporters_named(environ, "TRACES", unusable)
    endpoints: dict[str, str] = {}
    for exporter in exporters:
        if exporter in _DEFAULT_ENDPOINTS:
            name = _OWN_ENDPOINT if environ.get(_OWN_ENDPOINT) else _ENDPOINT
            endpoint = environ.get(name, "")
            why = bad_endpoint(exporter, endpoint) if endpoint else None
            if why is not None:
                unusable[name] = f"{why}; no spans leave by {exporter}"
                continue
            if endpoint and name == _ENDPOINT and exporter == "otlp_proto_http":
                endpoint = f"{endpoint.removesuffix('/')}/v1/traces"
            endpoints[exporter] = without_password(endpoint or _DEFAULT_ENDPOINTS[exporter])
    usable = tuple(name for name in exporters if name in endpoints or name not in _DEFAULT_ENDPOINTS)
    return TraceVariables(usable, endpoints, queue, batch, unusable)


def _count(environ: Mapping[str, str], name: str, default: int, unusable: dict[str, str]) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        unusable[name] = f"it is no whole number above zero, so {default}"
        return default
    return int(text)
