"""A tiny OTLP/gRPC server for metrics, which is reached by TLS and not without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)

__all__ = ["GrpcReceiver"]


class GrpcReceiver(MetricsServiceServicer):
    """Keeps every request that arrives.

    :param tls: what it shows, and what it asks clients for.
    """

    def __init__(self, tls: grpc.ServerCredentials) -> None:
        self._arrived: list[ExportMetricsServiceRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        add_MetricsServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]  # not annotated
        self._port = self._server.add_secure_port("127.0.0.1:0", tls)
        self._server.start()

    def Export(self, request: ExportMetricsServiceRequest, context: Any) -> ExportMetricsServiceResponse:
        """Take one request."""
        self._arrived.append(request)
        return ExportMetricsServiceResponse()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def requests(self) -> int:
        """How many have come."""
        return len(self._arrived)

    def total(self, name: str) -> float:
        """The sum over all series of a counter, as the last request tells it."""
        total: float = sum(
            point.as_int
            for resource in self._arrived[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.sum.data_points
        )
        return total

    def close(self) -> None:
        """Take no more."""
        self._server.stop(None).wait()
