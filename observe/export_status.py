"""Whether a node's telemetry leaves, as it is told to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ExportStatus"]


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """One exporter of one node.

    :ivar exporter: the name of the SDK's exporter, for example ``otlp_proto_grpc``.
    :ivar endpoint: where to, without user and password; empty where the exporter has no such thing.
    :ivar exports: how many have been acknowledged since the node's agent started.
    :ivar failures: how many have failed since the last one that was acknowledged.
    :ivar last_success_unix_s: when the last one was acknowledged; None: none yet.
    :ivar dropped: exports that were given up for good: what they held will never leave. Failed ones are not among
        them, for the next export tells all that they did.
    :ivar error: why the last one failed; empty when it did not.
    """

    exporter: str
    endpoint: str = ""
    exports: int = 0
    failures: int = 0
    last_success_unix_s: float | None = None
    dropped: int = 0
    error: str = ""
