"""The overview: is the cluster well, and if not, where to look.

It decides what an operator sees first. Each panel is narrowed to the clusters, nodes and types that the reader chooses.
"""

from __future__ import annotations

from cluster_app.dashboards.cluster_rows import entities, runners
from cluster_app.dashboards.dashboard import Dashboard, Row
from cluster_app.dashboards.goal import GOAL_MS, OBJECTIVE, missed, settled
from cluster_app.dashboards.message_rows import errors, latency, mailboxes, traffic
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.panel import BAD, DOUBTFUL, GOOD, Panel, Query, Step
from cluster_app.dashboards.series import or_zero, ratio, total
from observe.instruments import cluster

__all__ = ["overview"]


def overview(names: NameSet) -> Dashboard:
    """The overview for one set of names."""
    chosen = names.as_chosen()
    return Dashboard(
        uid=f"cluster-app-overview-{names.key}",
        title="cluster-app overview" if names.key == "otlp" else f"cluster-app overview ({names.key})",
        description=f"Traffic, errors, latency, entities and runners. Metrics by {names.way}.",
        names=names,
        rows=(
            _now(chosen),
            traffic(chosen),
            errors(chosen),
            latency(chosen),
            mailboxes(chosen),
            entities(chosen),
            runners(chosen),
        ),
    )


def _stat(
    title: str, description: str, query: str, unit: str = "short", steps: tuple[Step, ...] = (), **more: str
) -> Panel:
    return Panel(title, "stat", description, (Query(query, title),), unit, steps, **more, width=3, height=4)


def _now(names: NameSet) -> Row:
    every = total(names.gauge(cluster.runners))
    healthy = total(names.gauge(cluster.runners_healthy))
    return Row(
        "Now",
        (
            _stat(
                "Sent",
                "Messages sent per second, once for each message id; a broadcast counts one per target.",
                total(names.counter(cluster.messages_sent).rate()),
                "mps",
            ),
            _stat(
                f"Within {GOAL_MS}",
                f"Share of settled messages that were answered within {GOAL_MS}. An error of the entity's own code "
                f"counts as an answer, one of the cluster does not. The objective is {OBJECTIVE:.0%}.",
                f"1 - ({or_zero(missed(names))})",
                "percentunit",
                (Step(None, BAD), Step(OBJECTIVE, GOOD)),
                empty="Shows 100% where there is no traffic.",
            ),
            _stat(
                "Errors",
                "Share of settled messages that ended with an error of any type.",
                ratio(total(names.counts(cluster.message_latency, 'outcome="error"').rate()), settled(names)),
                "percentunit",
                (Step(None, GOOD), Step(0.01, DOUBTFUL), Step(0.05, BAD)),
            ),
            _stat(
                "Live entities", "Entities alive, all nodes together.", total(names.gauge(cluster.entities))
            ),
            _stat(
                "Runners not healthy",
                "Runners without a valid lease: they serve nothing until they have one again.",
                f"{every} - {healthy}",
                "short",
                (Step(None, GOOD), Step(1, BAD)),
            ),
            _stat("Runners healthy", "Runners with a valid lease.", healthy),
            _stat(
                "Shards",
                "Shards granted. Whole groups have as many as `shards_per_group`: fewer means that some wait for "
                "an owner.",
                total(names.gauge(cluster.shards)),
            ),
            _stat("Singletons", "Singletons alive.", total(names.gauge(cluster.singletons))),
        ),
    )
