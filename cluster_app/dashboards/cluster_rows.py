"""The overview's rows on the cluster itself: entities, runners and shards.

It decides what is asked about them, and how the answers are read.
"""

from __future__ import annotations

from cluster_app.dashboards.dashboard import Row
from cluster_app.dashboards.message_rows import GOAL_LINE
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.panel import Panel, Query
from cluster_app.dashboards.series import quantile, total
from observe.instruments import cluster

__all__ = ["entities", "runners"]


def entities(names: NameSet) -> Row:
    """Who lives, who comes and who goes."""
    activations = names.counter(cluster.entity_activations)
    gone = names.counter(cluster.entity_deactivations)
    return Row(
        "Entities",
        (
            Panel(
                "Live entities by type",
                "stacked",
                "Entities alive, by type.",
                (Query(total(names.gauge(cluster.entities), "entity_type"), "{{entity_type}}"),),
            ),
            Panel(
                "Activations against deactivations",
                "lines",
                "Entities that come to life per second, against those that are let go, by why. Equal lines mean a "
                "steady number of entities; the dashboard on idle time says whether they go too soon.",
                (
                    Query(total(activations.rate()), "activated"),
                    Query(total(gone.rate(), "reason"), "deactivated: {{reason}}"),
                ),
                "ops",
            ),
            Panel(
                "Activation",
                "lines",
                "How long an entity takes to come to life: `__init__` and `on_activate`, and for one with a process of "
                "its own also the start of that. The first message waits for it.",
                (
                    Query(
                        quantile(0.99, names.buckets(cluster.entity_activation), "entity_type", "outcome"),
                        "p99 {{entity_type}} {{outcome}}",
                    ),
                ),
                "s",
                GOAL_LINE,
            ),
        ),
    )


def runners(names: NameSet) -> Row:
    """Who serves, and which shards move."""
    handoff = cluster.shard_handoff
    by_node = f"{{{{{names.node}}}}}"
    return Row(
        "Runners and shards",
        (
            Panel(
                "Runners healthy of all",
                "lines",
                "Runners with a valid lease, and all runners. Where the lines part, some serve nothing.",
                (
                    Query(total(names.gauge(cluster.runners_healthy)), "healthy"),
                    Query(total(names.gauge(cluster.runners)), "all"),
                ),
                width=6,
            ),
            Panel(
                "Shards by node",
                "stacked",
                "Shards granted, by node. Shares are about even; a node that is drained or left has none.",
                (Query(total(names.gauge(cluster.shards), names.node), by_node),),
                width=6,
            ),
            Panel(
                "Handoffs",
                "stacked",
                "Shards per second that change their runner, by why and how. Those of `lost` follow the death of a "
                "runner.",
                (
                    Query(
                        total(names.counter(cluster.shard_handoffs).rate(), "reason", "outcome"),
                        "{{reason}} {{outcome}}",
                    ),
                ),
                "ops",
                width=6,
            ),
            Panel(
                "Handoff duration",
                "lines",
                "From the decision to move a shard to its next grant, by why. Messages of that shard wait so long.",
                (
                    Query(quantile(0.5, names.buckets(handoff), "reason"), "p50 {{reason}}"),
                    Query(quantile(0.99, names.buckets(handoff), "reason"), "p99 {{reason}}"),
                ),
                "s",
                width=6,
            ),
        ),
    )
