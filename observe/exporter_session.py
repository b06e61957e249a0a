"""The HTTP session of an OTLP exporter: what OpenTelemetry's variables say of certificates holds.

Decides that they go before ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE``, which are about everything else that a
machine talks to, and which the exporter's own session would let win.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["session_arguments"]


def session_arguments(exporter: str, signal: str) -> dict[str, Any]:
    """What an exporter must be made with; nothing where no such variable is set, or it needs no session.

    :param exporter: its entry point.
    :param signal: ``METRICS`` or ``TRACES``.
    """
    named = (f"OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
    if exporter != "otlp_proto_http" or not any(os.environ.get(name) for name in named):
        return {}
    import requests

    class Session(requests.Session):
        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            mine = self.verify if verify is None else verify  # the exporter has put the variable's there
            return super().merge_environment_settings(url, proxies, stream, mine, cert)

    return {"session": Session()}
