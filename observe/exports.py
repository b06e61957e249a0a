"""All ways out for a node's metrics.

Decides what each exporter of the SDK is made of: by its entry point, as the standard variables say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from observe.exporter_session import session_arguments
from observe.otel_variables import read
from observe.ways_out import Node, WaysOut, exporter_class

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from observe.export import Account, Exporting

__all__ = ["Exports"]

_COMPRESSIONS = ("OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION")


class Exports(WaysOut["Exporting"]):
    """The exporters of one node's account.

    :param environ: this process's environment. Variables that are of no use are taken out of it.
    """

    def __init__(
        self,
        account: Account,
        node_id: str,
        session: str,
        version: str,
        *,
        namespace: str | None = None,
        environ: MutableMapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        variables = read(environ)
        super().__init__(variables.unusable, environ)
        for name in _COMPRESSIONS if variables.exporters else ():
            if environ.get(name, "").strip().lower() == "none":
                environ.pop(name)  # the default, and a word that the SDK's gRPC exporter does not know

        def way(name: str, resource: Resource, reason: Callable[[], str | None]) -> Exporting:
            from observe.export import Exporting

            return Exporting(
                account,
                name,
                lambda: _made(name),
                resource,
                version,
                interval_s=variables.interval_s,
                timeout_s=variables.timeout_s,
                endpoint=variables.endpoint.get(name, ""),
                reason=reason,
            )

        self._begin(variables.exporters, Node(node_id, session, version, namespace), way)


def _made(name: str) -> Any:
    """An exporter by its entry point. Raises ValueError for one that is not there, or does not export by itself."""
    from opentelemetry.sdk.metrics.export import MetricExporter

    cls = exporter_class("opentelemetry_metrics_exporter", "OTEL_METRICS_EXPORTER", name)
    if not (isinstance(cls, type) and issubclass(cls, MetricExporter)):
        raise ValueError(
            f"OTEL_METRICS_EXPORTER: {name} waits to be asked, and a node's agent has nobody who asks; "
            "Prometheus scrapes Ray's own /metrics instead"
        )
    return cls(**session_arguments(name, "METRICS"))
