"""What is told when a cluster is there and says nothing."""

from __future__ import annotations

__all__ = ["SilentService"]


class SilentService(ConnectionError):
    """Ray is reached and has a service of that namespace, which does not answer."""
