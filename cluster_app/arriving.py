"""Where a reference to an entity belongs that arrives in a message, or is unpickled otherwise: by whom it sends."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from cluster_app.envelope import Codec, Packed

__all__ = ["arriving_at", "connections", "current_cluster", "unpacked_at"]

# Set while a runner unpacks arguments, several of which can share one process in tests. Elsewhere it is the process's
# own connection.
arriving_at: ContextVar[Any] = ContextVar("arriving_at", default=None)
connections: list[Any] = []


def unpacked_at(here: Any, codec: Codec, packed: Packed) -> Any:
    """What was pickled elsewhere; references in it lead back by `here`. Raises whatever unpickling raises."""
    token = arriving_at.set(here)
    try:
        return codec.unpack(packed)
    finally:
        arriving_at.reset(token)


def current_cluster() -> Any:
    """The cluster that this process is connected to. Raises RuntimeError when there is none."""
    here = arriving_at.get()
    if here is not None:
        return here
    if connections:
        return connections[-1]
    raise RuntimeError("a reference to an entity needs a connection: call cluster_app.connect() first")
