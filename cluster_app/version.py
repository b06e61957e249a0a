"""The version, and what happens when two of them meet."""

from __future__ import annotations

__all__ = ["VersionMismatch", "__version__"]

__version__ = "0.1.0"


class VersionMismatch(RuntimeError):
    """The running service is of another version than this process."""

    def __init__(self, running: str, own: str, namespace: str) -> None:
        super().__init__(running, own, namespace)
        self.running = running
        self.own = own
        self.namespace = namespace

    def __str__(self) -> str:
        return (
            f"the cluster in namespace {self.namespace!r} runs cluster-app {self.running}, and this process has "
            f"{self.own}: install {self.running} here, or end the service with `cluster-app down` and connect again"
        )
