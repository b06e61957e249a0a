"""What a runner is because of the node it is on: its share of the shards, and the pinned groups it may serve.

Decides how a node's labels and resources are read. A node's are fixed when it starts, so a runner's standing is, too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from cluster_app.node_rule import NodeRule

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["USUAL", "WEIGHT_LABEL", "Standing", "may_have_runners", "standing_of"]

WEIGHT_LABEL = "cluster_app.weight"


class Standing(NamedTuple):
    """The weight of a runner, 1 being usual, and the pinned groups whose rules its node meets."""

    weight: float = 1.0
    groups: frozenset[str] = frozenset()


USUAL = Standing()


def standing_of(config: ClusterConfig, labels: Mapping[str, str], resources: Mapping[str, float]) -> Standing:
    """The standing of a runner on a node that has these labels and, in all, these resources."""
    groups = {name for name, asked in config.groups.items() if NodeRule(asked).fits(labels, resources)}
    return Standing(_weight(labels), frozenset(groups))


def may_have_runners(
    config: ClusterConfig, labels: Mapping[str, str], resources: Mapping[str, float]
) -> bool:
    """Whether the configuration wants runners on such a node."""
    return NodeRule(config.runner_nodes).fits(labels, resources)


def _weight(labels: Mapping[str, str]) -> float:
    told = labels.get(WEIGHT_LABEL)
    if told is None:
        return 1.0
    try:
        weight = float(told)
    except ValueError:
        weight = math.nan
    if weight > 0 and math.isfinite(weight):
        return weight
    logging.getLogger("cluster_app").warning(
        "node label %s=%s is not a number above 0: runners there count as 1; use runner_nodes to have none there",
        WEIGHT_LABEL,
        told,
    )
    return 1.0
