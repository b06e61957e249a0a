"""A tiny OTLP/HTTP server: what stands behind the collector, and plays one that is slow or refuses."""

from __future__ import annotations

import gzip
import ssl
import threading
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Arrived", "ArrivedSpan", "Receiver"]

_DELTA = 1


class Arrived(NamedTuple):
    """One point as it arrived.

    :ivar value: a number's value; a histogram's count.
    :ivar kind: ``sum``, ``gauge`` or ``histogram``.
    """

    node: str
    scope: str
    name: str
    labels: tuple[tuple[str, Any], ...]
    kind: str
    start_ns: int
    at_ns: int
    value: float
    sum: float = 0.0
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    delta: bool = False
    exemplars: tuple[tuple[str, str], ...] = ()

    @property
    def series(self) -> tuple[str, str, str, tuple[tuple[str, Any], ...]]:
        """What makes it one series."""
        return self.node, self.scope, self.name, self.labels


class ArrivedSpan(NamedTuple):
    """One span as it arrived; ids are hexadecimal, the parent's empty for the first of its trace."""

    node: str
    scope: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


class Receiver:
    """Keeps every point and every span that arrives.

    :param tls: by which it is reached with HTTPS, and not without.
    :ivar answering: entered when it has kept what came with metrics, and left when its answer has been sent.
    :ivar status: the HTTP status that it answers; 200 at first.
    :ivar hold: while it is not set, answers wait.
    :ivar resources: the attributes of every resource seen, by its service.instance.id.
    :ivar requests: how many requests have come, with a good answer or without.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answering: Callable[[], AbstractContextManager[None]] = nullcontext
        self.status = 200
        self.delay_s = 0.0
        self.requests = 0
        self.points: list[Arrived] = []
        self.spans: list[ArrivedSpan] = []
        self.resources: dict[str, dict[str, Any]] = {}
        self.headers: list[dict[str, str]] = []
        self._news = threading.Condition()
        self._closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                encoding = self.headers.get("Content-Encoding")
                if encoding == "gzip":
                    body = gzip.decompress(body)
                elif encoding == "deflate":
                    body = zlib.decompress(body)
                traces = self.path.endswith("/v1/traces")
                take = receiver._take_spans if traces else receiver._take
                status = take(body, dict(self.headers.items()))
                made = ExportTraceServiceResponse() if traces else ExportMetricsServiceResponse()
                answer = made.SerializeToString()
                with nullcontext() if traces else receiver.answering():
                    self.send_response(status)
                    self.send_header("Content-Type", "application/x-protobuf")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Its URL, without a path."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Take no more."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, condition: Any, within_s: float) -> bool:
        """Whether the condition came true as points arrived."""
        with self._news:
            return bool(self._news.wait_for(condition, within_s))

    def totals(self, name: str, **labels: str) -> dict[tuple[tuple[str, Any], ...], float]:
        """The value of each series of a metric, over all nodes: the last cumulative one, or the sum of all deltas."""
        found: dict[tuple[tuple[str, Any], ...], float] = {}
        for arrived in self._final(name):
            if labels.items() <= dict(arrived.labels).items():
                found[arrived.labels] = found.get(arrived.labels, 0.0) + arrived.value
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series that match."""
        return sum(self.totals(name, **labels).values())

    def names(self) -> set[str]:
        """The names of all metrics that have arrived, of any scope."""
        with self._news:
            return {arrived.name for arrived in self.points}

    def series(self) -> set[tuple[str, str, str, tuple[tuple[str, Any], ...]]]:
        """All series that have ever arrived."""
        with self._news:
            return {arrived.series for arrived in self.points}

    def _final(self, name: str) -> list[Arrived]:
        last: dict[Any, Arrived] = {}
        with self._news:
            for arrived in self.points:
                if arrived.name != name:
                    continue
                before = last.get(arrived.series)
                if before is not None and arrived.delta:
                    arrived = arrived._replace(
                        value=before.value + arrived.value, sum=before.sum + arrived.sum
                    )
                elif before is not None and arrived.at_ns < before.at_ns:
                    continue
                last[arrived.series] = arrived
        return list(last.values())

    def _take(self, body: bytes, headers: dict[str, str]) -> int:
        request = ExportMetricsServiceRequest.FromString(body)
        if self.delay_s:
            self._closing.wait(self.delay_s)
        with self._news:
            self.requests += 1
            self.headers.append(headers)
            if self.status == 200:
                for resource in request.resource_metrics:
                    self._keep(resource)
            self._news.notify_all()
            return self.status

    def span_names(self) -> set[str]:
        """The names of all spans that have arrived."""
        with self._news:
            return {span.name for span in self.spans}

    def exemplars(self, name: str, **labels: str) -> set[tuple[str, str]]:
        """Trace and span of each exemplar that has arrived with a metric."""
        with self._news:
            return {
                exemplar
                for arrived in self.points
                if arrived.name == name and labels.items() <= dict(arrived.labels).items()
                for exemplar in arrived.exemplars
            }

    def _take_spans(self, body: bytes, headers: dict[str, str]) -> int:
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            for resource in request.resource_spans:
                attributes = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
                node = str(attributes.get("service.instance.id", ""))
                for scope in resource.scope_spans:
                    self.spans += [_arrived_span(node, scope.scope.name, span) for span in scope.spans]
            self._news.notify_all()
            return self.status

    def _keep(self, resource: Any) -> None:
        attributes = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
        node = str(attributes.get("service.instance.id", ""))
        self.resources[node] = attributes
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                delta = getattr(data, "aggregation_temporality", 0) == _DELTA
                for point in data.data_points:
                    self.points.append(_arrived(node, scope.scope.name, metric.name, kind, delta, point))


def _arrived(node: str, scope: str, name: str, kind: str, delta: bool, point: Any) -> Arrived:
    labels = tuple(sorted((pair.key, _value(pair.value)) for pair in point.attributes))
    times = (point.start_time_unix_nano, point.time_unix_nano)
    if kind == "histogram":
        return Arrived(
            node,
            scope,
            name,
            labels,
            kind,
            *times,
            point.count,
            point.sum,
            tuple(point.bucket_counts),
            tuple(point.explicit_bounds),
            delta,
            tuple((exemplar.trace_id.hex(), exemplar.span_id.hex()) for exemplar in point.exemplars),
        )
    value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    return Arrived(node, scope, name, labels, kind, *times, value, delta=delta)


def _arrived_span(node: str, scope: str, span: Any) -> ArrivedSpan:
    attributes = {pair.key: _value(pair.value) for pair in span.attributes}
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return ArrivedSpan(
        node, scope, span.name, *ids, span.start_time_unix_nano, span.end_time_unix_nano, attributes
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
