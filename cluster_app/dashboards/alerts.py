"""The alerts: when somebody has to look at the cluster, and when to get up for it.

It decides conditions, thresholds and severities; `docs/runbook.md` has a section for each on what to do. Clusters are
told apart by their Ray session, so one Prometheus may watch several.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster_app.dashboards.goal import GOAL_MS, OBJECTIVE, missed
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.rule import Alert, Group, Recorded
from cluster_app.dashboards.series import total
from observe.instruments import cluster

__all__ = ["RUNBOOK", "alerts"]

RUNBOOK = "docs/runbook.md"
"""Where an alert's section is, unless said otherwise."""

ENOUGH = 100
"""Messages in an hour below which no share of them is worth an alert."""


@dataclass(frozen=True, slots=True)
class Burn:
    """The error budget is spent this many times faster than it lasts for 30 days.

    The long window says that it matters, the short one that it goes on: with it the alert ends soon after its cause.
    """

    times: float
    long: str
    short: str


FAST = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
"""2 % of 30 days' budget gone in an hour, 5 % in six hours."""

SLOW = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))
"""10 % of 30 days' budget gone in a day, or in three."""

WINDOWS = {"30s": ("5m", "30m", "1h", "2h"), "2m": ("6h", "1d", "3d")}
"""All windows of those, by how often the share within them is worked out."""


def alerts(names: NameSet) -> tuple[Group, ...]:
    """All rules for one set of names."""
    return (
        *(
            Group(
                f"cluster-app-{names.key}-goal-every-{every}",
                every,
                tuple(
                    Recorded(_share(names, window), missed(names, names.cluster, window=window))
                    for window in some
                ),
            )
            for every, some in WINDOWS.items()
        ),
        Group(
            f"cluster-app-{names.key}",
            "30s",
            (
                *_goal(names),
                _mailbox_full(names),
                *_runners(names),
                _churn(names),
                _redeliveries(names),
                *_telemetry(names),
            ),
        ),
    )


def _share(names: NameSet, window: str) -> str:
    return f"{names.prefix}cluster_messages:missed_goal:ratio_rate{window}"


def _goal(names: NameSet) -> tuple[Alert, Alert]:
    def spent(burns: tuple[Burn, ...]) -> str:
        budget = 1 - OBJECTIVE
        conditions = (
            f"{_share(names, burn.long)} > {burn.times * budget:g} and "
            f"{_share(names, burn.short)} > {burn.times * budget:g}"
            for burn in burns
        )
        settled = total(names.counts(cluster.message_latency).increase("1h"), names.cluster)
        return "(\n  " + "\n  or\n  ".join(conditions) + f"\n)\nand {settled} > {ENOUGH}"

    promise = f"{OBJECTIVE:.0%} of messages are to be answered within {GOAL_MS}"
    return (
        Alert(
            "ClusterAppGoalBurnsFast",
            "critical",
            spent(FAST),
            "2m",
            f"{{{{ $value | humanizePercentage }}}} of messages miss the goal of {GOAL_MS}",
            f"{promise}; at this rate the error budget of 30 days is gone within five days, or within two.",
        ),
        Alert(
            "ClusterAppGoalBurnsSlowly",
            "warning",
            spent(SLOW),
            "15m",
            f"{{{{ $value | humanizePercentage }}}} of messages miss the goal of {GOAL_MS}, for long",
            f"{promise}; at this rate the error budget does not last for 30 days.",
        ),
    )


def _mailbox_full(names: NameSet) -> Alert:
    by = (names.cluster, "entity_type")
    full = total(names.counter(cluster.errors, 'type="MailboxFull"').rate("5m"), *by)
    sent = total(names.counter(cluster.messages_sent).rate("5m"), *by)
    return Alert(
        "ClusterAppMailboxFull",
        "warning",
        f"{full}\n> 0.01 * {sent}",
        "5m",
        "Mailboxes of {{ $labels.entity_type }} are full: {{ $value | humanize }} messages/s are refused",
        "More than one in a hundred messages of this type found the entity's mailbox or the lane to its runner at its "
        "bound. They did not run, and can be sent again.",
    )


def _runners(names: NameSet) -> tuple[Alert, Alert]:
    healthy = total(names.gauge(cluster.runners_healthy), names.cluster)
    every = total(names.gauge(cluster.runners), names.cluster)
    sent = total(names.counter(cluster.messages_sent).rate("5m"), names.cluster)
    return (
        Alert(
            "ClusterAppRunnersUnhealthy",
            "warning",
            f"{every} - {healthy} > 0",
            "2m",
            "Runners without a valid lease: {{ $value }}",
            "A runner without a lease serves nothing: its entities stand still, and messages to them wait.",
        ),
        Alert(
            "ClusterAppNoHealthyRunner",
            "critical",
            f"{sent} > 0\nunless {healthy} > 0",
            "2m",
            "Messages are sent, and no runner is healthy",
            "No runner with a valid lease is seen: messages wait until their deadline, and end with "
            "RunnerNotRegistered, EntityNotAssignedToRunner or Timeout.",
        ),
    )


def _churn(names: NameSet) -> Alert:
    by = (names.cluster, "entity_type")
    activations = total(names.counter(cluster.entity_activations).rate("15m"), *by)
    received = total(names.counter(cluster.messages_received).rate("15m"), *by)
    return Alert(
        "ClusterAppActivationChurn",
        "warning",
        f"{activations} > 10\nand {received} < 2 * {activations}",
        "15m",
        "{{ $labels.entity_type }}: {{ $value | humanize }} activations/s, for fewer than two messages each",
        "Entities of this type are let go before their next message comes, or each id gets one message in its life. "
        "Nearly every message pays for an activation.",
    )


def _redeliveries(names: NameSet) -> Alert:
    again = total(names.counter(cluster.redeliveries).rate("5m"), names.cluster)
    sent = total(names.counter(cluster.messages_sent).rate("5m"), names.cluster)
    return Alert(
        "ClusterAppRedeliveryStorm",
        "warning",
        f"{again} > 1\nand {again} > 0.05 * {sent}",
        "5m",
        "{{ $value | humanize }} messages/s are sent again",
        "More than one in twenty messages has to be sent again, for minutes: shards or runners come and go, or a lane "
        "breaks again and again. Messages are late, and idempotent ones may run twice.",
    )


def _telemetry(names: NameSet) -> tuple[Alert, Alert]:
    here = (names.cluster, names.node)
    seen = total(names.gauge(cluster.runners), *here)
    served = total(names.gauge(cluster.shards, last_within="6h"), *here)
    granted = total(names.gauge(cluster.shards), names.cluster)
    # The median: a node that died is for some minutes seen beside those that serve its shards by then.
    usual = f"quantile_over_time(0.5, {granted}[6h:1m])"
    runners = names.gauge(cluster.runners)
    before = names.gauge(cluster.runners, last_within="1h")
    return (
        Alert(
            "ClusterAppNodeTelemetryMissing",
            "warning",
            # A node that left on purpose has given its shards to others, so their sum over the nodes that are seen is
            # whole. Where it is not, somebody serves who is not seen, or nobody serves.
            f"(\n  {served} > 0\n  unless {seen}\n)\nand on ({names.cluster}) {granted} < {usual}",
            "5m",
            f"Nothing is heard of node {{{{ $labels.{names.node} }}}}, and its shards are not seen elsewhere",
            "The node's metrics no longer arrive, so what happens there is in no figure and no alert. Or the node is "
            "gone, and its shards have found no other owner.",
        ),
        Alert(
            "ClusterAppTelemetryMissing",
            "warning",
            # Nobody can tell an outage of the collector from a cluster that was ended: so it ends after an hour.
            f"max({before}) > 0\nunless max({runners}) >= 0",
            "5m",
            "Nothing is heard of any cluster",
            "There were runners within the last hour, and now no node's metrics arrive: the way to Prometheus is "
            "broken, or all clusters were ended. All other alerts are blind meanwhile.",
        ),
    )
