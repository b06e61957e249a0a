"""Why an entity's own process does not start: what it demands, against what Ray's nodes have."""

from __future__ import annotations

from typing import Any

import ray

from entities.demand import Demand

__all__ = ["hindrance"]


def hindrance(demand: Demand) -> str | None:
    """Why no node takes a process with this demand now; None when one would. Blocks for calls to the GCS."""
    wanted = demand.amounts()
    if not wanted:
        return None
    nodes: list[Any] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's
    if not any(_covers(node["Resources"], wanted) for node in nodes):
        return f"its process cannot be scheduled: it demands {demand}, and no node has that"
    from ray._private.state import available_resources_per_node

    free: dict[str, Any] = available_resources_per_node()  # type: ignore[no-untyped-call]  # Ray's
    if not any(_covers(left, wanted) for left in free.values()):
        return f"its process cannot be scheduled: it demands {demand}, and no node has that free now"
    return None


def _covers(there: Any, wanted: dict[str, float]) -> bool:
    return all(there.get(name, 0.0) >= amount for name, amount in wanted.items())
