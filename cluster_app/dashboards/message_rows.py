"""The overview's rows on messages: traffic, errors, latency, mailboxes and handlers.

It decides what is asked about messages, and how the answers are read.
"""

from __future__ import annotations

from cluster_app.dashboards.dashboard import Row
from cluster_app.dashboards.goal import GOAL_MS, GOAL_S, OBJECTIVE, missed, settled
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.panel import BAD, GOOD, Panel, Query, Step
from cluster_app.dashboards.series import quantile, ratio, total
from observe.instruments import cluster

__all__ = ["GOAL_LINE", "errors", "latency", "mailboxes", "traffic"]

GOAL_LINE = (Step(None, GOOD), Step(GOAL_S, BAD))


def traffic(names: NameSet) -> Row:
    """Messages sent, received and redelivered, and the batches they travel in."""
    sent, received = names.counter(cluster.messages_sent), names.counter(cluster.messages_received)
    batches = cluster.batch_messages
    return Row(
        "Traffic",
        (
            Panel(
                "Sent by type",
                "stacked",
                "Messages sent per second, counted by the sender once for each message id.",
                (Query(total(sent.rate(), "entity_type", "operation"), "{{entity_type}} {{operation}}"),),
                "mps",
            ),
            Panel(
                "Received by type",
                "stacked",
                "Messages per second that were accepted into a mailbox, once for each id. Below what is sent: some "
                "are refused, or wait at their sender.",
                (Query(total(received.rate(), "entity_type", "operation"), "{{entity_type}} {{operation}}"),),
                "mps",
            ),
            Panel(
                "Redelivered",
                "stacked",
                "Messages per second that were sent again under the same id, by why. Some belong to every handoff; "
                "many without one mean that runners go or cannot be reached.",
                (
                    Query(
                        total(names.counter(cluster.redeliveries).rate(), "entity_type", "reason"),
                        "{{entity_type}} {{reason}}",
                    ),
                ),
                "mps",
            ),
            Panel(
                "Messages in a batch",
                "lines",
                "Messages that travel together, by direction. Large batches are cheap for each message; batches of "
                "one under load mean that senders wait for each reply.",
                (
                    Query(
                        ratio(
                            total(names.sums(batches).rate(), "direction"),
                            total(names.counts(batches).rate(), "direction"),
                        ),
                        "mean {{direction}}",
                    ),
                    Query(quantile(0.95, names.buckets(batches), "direction"), "p95 {{direction}}"),
                ),
                "short",
                width=12,
            ),
            Panel(
                "Batches",
                "lines",
                "Batches per second, by direction.",
                (Query(total(names.counts(batches).rate(), "direction"), "{{direction}}"),),
                "ops",
                width=12,
            ),
        ),
    )


def errors(names: NameSet) -> Row:
    """What went wrong, by type."""
    failed = names.counts(cluster.message_latency, 'outcome="error"')
    return Row(
        "Errors",
        (
            Panel(
                "Errors by type",
                "stacked",
                "Messages per second that ended with an error, by the error's type. README says of each what it "
                "means, whether the handler may have run, and whether to send again.",
                (
                    Query(
                        total(names.counter(cluster.errors).rate(), "entity_type", "type"),
                        "{{entity_type}} {{type}}",
                    ),
                ),
                "mps",
            ),
            Panel(
                "Share that failed",
                "lines",
                "Share of settled messages that ended with an error, by entity type.",
                (
                    Query(
                        ratio(total(failed.rate(), "entity_type"), settled(names, "entity_type")),
                        "{{entity_type}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Handlers that stalled",
                "lines",
                "Handlers per second that held a runner's event loop for more than 100 ms in one go: every entity "
                "of that runner waited. Await what takes long, or declare the message blocking.",
                (
                    Query(
                        total(names.counter(cluster.slow_handlers).rate(), "entity_type", "method"),
                        "{{entity_type}}.{{method}}",
                    ),
                ),
                "ops",
            ),
        ),
    )


def latency(names: NameSet) -> Row:
    """How long messages take, against the goal."""
    buckets = names.buckets(cluster.message_latency)
    return Row(
        "Latency",
        (
            Panel(
                "Latency",
                "lines",
                f"From sending to the settled reply, as the sender sees it, all types together. The line is the goal "
                f"of {GOAL_MS}. A quantile is right to its bucket, whose edges are 0.1, 0.25, 0.5, 1, 10, 50, 100, "
                "500 ms, 1 and 5 s.",
                tuple(Query(quantile(q, buckets), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
                "s",
                GOAL_LINE,
            ),
            Panel(
                "p99 by type",
                "lines",
                f"The slowest hundredth of each entity type begins here. The line is the goal of {GOAL_MS}.",
                (Query(quantile(0.99, buckets, "entity_type"), "{{entity_type}}"),),
                "s",
                GOAL_LINE,
            ),
            Panel(
                f"Missed {GOAL_MS} by type",
                "lines",
                f"Share of settled messages that were not answered within {GOAL_MS}. The line is the error budget: "
                f"{1 - OBJECTIVE:.0%} of all messages.",
                (Query(missed(names, "entity_type"), "{{entity_type}}"),),
                "percentunit",
                (Step(None, GOOD), Step(round(1 - OBJECTIVE, 6), BAD)),
            ),
            Panel(
                "Latency over time",
                "heatmap",
                "How many messages per second were settled within each bucket of time. Two bands mean two kinds of "
                "messages: those that found a live entity, and those that had to wait for one.",
                (Query(total(buckets.rate(), "le"), "{{le}}"),),
                "s",
                width=24,
            ),
        ),
    )


def mailboxes(names: NameSet) -> Row:
    """Where their time goes: waiting, and handlers."""
    wait, handler = names.buckets(cluster.mailbox_wait), cluster.handler_duration
    return Row(
        "Mailboxes and handlers",
        (
            Panel(
                "Mailbox wait",
                "lines",
                "From a message's entry into a mailbox to the start of its handler, by entity type. It grows when "
                "one entity gets more than it can handle, or when its runner has no time.",
                (
                    Query(quantile(0.5, wait, "entity_type"), "p50 {{entity_type}}"),
                    Query(quantile(0.99, wait, "entity_type"), "p99 {{entity_type}}"),
                ),
                "s",
                GOAL_LINE,
            ),
            Panel(
                "Mailbox depth",
                "stacked",
                "Messages that wait in mailboxes now, by entity type, all entities together.",
                (Query(total(names.gauge(cluster.mailbox_depth), "entity_type"), "{{entity_type}}"),),
            ),
            Panel(
                "Handler time in use",
                "stacked",
                "Seconds of handlers per second, by method: how many handlers ran at once in the mean. Waiting "
                "inside of a handler counts.",
                (
                    Query(
                        total(names.sums(handler).rate(), "entity_type", "method"),
                        "{{entity_type}}.{{method}}",
                    ),
                ),
            ),
            Panel(
                "Handler duration, p50",
                "lines",
                "From a handler's start to its end, by method: half of them took no longer.",
                (
                    Query(
                        quantile(0.5, names.buckets(handler), "entity_type", "method"),
                        "{{entity_type}}.{{method}}",
                    ),
                ),
                "s",
                GOAL_LINE,
                width=12,
            ),
            Panel(
                "Handler duration, p99",
                "lines",
                "From a handler's start to its end, by method and outcome: all but the slowest hundredth.",
                (
                    Query(
                        quantile(0.99, names.buckets(handler), "entity_type", "method", "outcome"),
                        "{{entity_type}}.{{method}} {{outcome}}",
                    ),
                ),
                "s",
                GOAL_LINE,
                width=12,
            ),
        ),
    )
