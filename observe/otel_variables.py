"""The standard variables of OpenTelemetry that say whether, where and how metrics leave; read and checked.

Decides which are set to something of use. What is not is told once, by name and without its value (it may hold a
password), and counts as not set, as the OpenTelemetry specification has it. Does not decide how exporters read the
rest: the SDK's own read most of them themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Variables", "bad_endpoint", "exporters_named", "read", "without_password"]

_PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_DEFAULT_ENDPOINTS = {
    "otlp_proto_grpc": "http://localhost:4317",
    "otlp_proto_http": "http://localhost:4318/v1/metrics",
}
_DEFAULT_INTERVAL_MS = 60_000.0
_DEFAULT_TIMEOUT_MS = 30_000.0

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_FILES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Variables:
    """What the environment says.

    :ivar exporters: the entry points of the SDK's exporters to be used, in order; none: nothing leaves.
    :ivar interval_s: seconds between two exports.
    :ivar timeout_s: seconds that an export may take.
    :ivar endpoint: where each OTLP exporter sends to, without user and password.
    :ivar unusable: why each variable that is of no use is so; by name.
    """

    exporters: tuple[str, ...]
    interval_s: float
    timeout_s: float
    endpoint: Mapping[str, str]
    unusable: Mapping[str, str]


def read(environ: Mapping[str, str]) -> Variables:
    """Read and check the variables. Raises nothing: one that is of no use is told in `Variables.unusable`."""
    unusable: dict[str, str] = {}
    interval_s = _milliseconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", _DEFAULT_INTERVAL_MS, unusable)
    timeout_s = _milliseconds(environ, "OTEL_METRIC_EXPORT_TIMEOUT", _DEFAULT_TIMEOUT_MS, unusable)
    exporters = _exporters(environ, unusable)
    if any(exporter in _DEFAULT_ENDPOINTS for exporter in exporters):
        _check_otlp(environ, unusable, with_grpc="otlp_proto_grpc" in exporters)
    endpoints: dict[str, str] = {}
    for exporter in exporters:
        if exporter in _DEFAULT_ENDPOINTS:
            endpoints[exporter] = _endpoint(environ, exporter)
            name = _METRICS_ENDPOINT if environ.get(_METRICS_ENDPOINT) else _ENDPOINT
            why = bad_endpoint(exporter, environ[name]) if environ.get(name) else None
            if why is not None:
                unusable[name] = f"{why}; no metrics leave by {exporter}"
    if unusable.keys() & {_ENDPOINT, _METRICS_ENDPOINT}:
        # The default would be another place than the one that was meant.
        exporters = tuple(name for name in exporters if name not in endpoints)
    shown = {name: without_password(endpoint) for name, endpoint in endpoints.items()}
    return Variables(exporters, interval_s, timeout_s, shown, unusable)


def _exporters(environ: Mapping[str, str], unusable: dict[str, str]) -> tuple[str, ...]:
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower()
    if disabled == "true":
        return ()
    if disabled not in ("", "false"):
        unusable["OTEL_SDK_DISABLED"] = "it is neither true nor false, so false"
    return exporters_named(environ, "METRICS", unusable)


def exporters_named(environ: Mapping[str, str], signal: str, unusable: dict[str, str]) -> tuple[str, ...]:
    """The entry points of the exporters that the variables of a signal (``METRICS``, ``TRACES``) name, in order."""
    variable = f"OTEL_{signal}_EXPORTER"
    named = [name.strip() for name in environ.get(variable, "").split(",") if name.strip()]
    if not named and (environ.get(_ENDPOINT) or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")):
        named = ["otlp"]
    found: list[str] = []
    for name in named:
        if name.lower() == "none":
            continue
        exporter = _otlp_by_protocol(environ, signal, unusable) if name == "otlp" else name
        if exporter not in found:
            found.append(exporter)
    if found and any(name.lower() == "none" for name in named):
        unusable[variable] = f"it says none beside {', '.join(found)}, which are used"
    return tuple(found)


def _otlp_by_protocol(environ: Mapping[str, str], signal: str, unusable: dict[str, str]) -> str:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol in _PROTOCOLS:
            return _PROTOCOLS[protocol]
        if protocol:
            unusable[name] = f"protocols are {' and '.join(_PROTOCOLS)}"
    return _PROTOCOLS["grpc"]


def _check_otlp(environ: Mapping[str, str], unusable: dict[str, str], *, with_grpc: bool) -> None:
    preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    if environ.get(preference, "").strip().lower() not in ("", "cumulative", "delta", "lowmemory"):
        unusable[preference] = "temporalities are cumulative, delta and lowmemory; cumulative is used"
    for prefix in ("OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_METRICS_"):
        _check_common(environ, prefix, unusable)
        if with_grpc and environ.get(f"{prefix}COMPRESSION", "").strip().lower() == "deflate":
            unusable[f"{prefix}COMPRESSION"] = "gRPC has gzip and none"


def _check_common(environ: Mapping[str, str], prefix: str, unusable: dict[str, str]) -> None:
    seconds = environ.get(f"{prefix}TIMEOUT")
    if seconds and not _positive(seconds):
        unusable[f"{prefix}TIMEOUT"] = "it is no number of seconds above zero"
    compression = environ.get(f"{prefix}COMPRESSION", "").strip().lower()
    if compression not in ("", "none", "gzip", "deflate"):
        unusable[f"{prefix}COMPRESSION"] = "compressions are gzip, deflate (only with HTTP) and none"
    if environ.get(f"{prefix}INSECURE", "").strip().lower() not in ("", "true", "false"):
        unusable[f"{prefix}INSECURE"] = "it is neither true nor false"
    headers = [pair for pair in environ.get(f"{prefix}HEADERS", "").split(",") if pair.strip()]
    if any(not pair.partition("=")[0].strip() or "=" not in pair for pair in headers):
        unusable[f"{prefix}HEADERS"] = "headers are written name=value,name=value"
    for what in _FILES:
        path = environ.get(f"{prefix}{what}")
        if path and not os.access(path, os.R_OK):
            unusable[f"{prefix}{what}"] = f"{path} is no file that can be read"


def _milliseconds(environ: Mapping[str, str], name: str, default: float, unusable: dict[str, str]) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default / 1000
    if not _positive(text):
        unusable[name] = f"it is no number of milliseconds above zero, so {default:.0f}"
        return default / 1000
    return float(text) / 1000


def _positive(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return 0 < number < math.inf


def _endpoint(environ: Mapping[str, str], exporter: str) -> str:
    own = environ.get(_METRICS_ENDPOINT)
    if own:
        return own
    common = environ.get(_ENDPOINT)
    if not common:
        return _DEFAULT_ENDPOINTS[exporter]
    return f"{common.removesuffix('/')}/v1/metrics" if exporter == "otlp_proto_http" else common


def bad_endpoint(exporter: str, endpoint: str) -> str | None:
    """Why an endpoint is of no use to an exporter; None if it is."""
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as error:
        return f"it is no URL ({error})"
    if parts.scheme in ("http", "https") and parts.hostname:
        return None
    if exporter == "otlp_proto_grpc" and "://" not in endpoint:
        return None  # gRPC takes host:port, and unix:path
    return "it is no URL that begins with http:// or https://"


def without_password(endpoint: str) -> str:
    """An endpoint as it may be shown."""
    scheme, separator, rest = endpoint.partition("://")
    host = rest if separator else scheme
    authority, slash, path = host.partition("/")
    return (
        f"{scheme}{separator}" * bool(separator)
        + authority.rpartition("@")[2]
        + slash
        + path.partition("?")[0]
    )
