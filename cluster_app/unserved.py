"""Why nobody serves a shard, as far as a sender can tell: its text for `RunnerNotRegistered`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster_app.node_rule import NodeRule

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["unserved"]


def unserved(config: ClusterConfig, group: str) -> str:
    """What to say of a message whose deadline came while no runner served its shard, of this group."""
    asked = ""
    if group in config.groups:
        asked = f"; shard group {group!r} may only be on nodes with {NodeRule(config.groups[group])} (groups)"
    if config.runner_nodes:
        asked += f"; runners are only on nodes with {NodeRule(config.runner_nodes)} (runner_nodes)"
    return f"no runner served its shard before the deadline{asked}"
