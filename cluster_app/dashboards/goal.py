"""What is promised of a message, said once: dashboards draw it, alerts hold the cluster to it.

It decides the goal, the objective, and which messages miss it. It does not decide whom that wakes: the alerts do.
"""

from __future__ import annotations

from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.series import RATE, ratio, total
from observe.instruments import cluster

__all__ = ["ANSWERS", "GOAL_MS", "GOAL_S", "OBJECTIVE", "missed", "settled"]

GOAL_S = 0.1
"""Seconds within which a message is to be answered, as its sender sees it."""

GOAL_MS = f"{GOAL_S * 1000:g} ms"
"""The same, to be read."""

OBJECTIVE = 0.99
"""Share of messages that are to be answered within the goal. The rest is the error budget."""

ANSWERS = ("AlreadyProcessingMessage", "CallCycle", "Cancelled", "HandlerError", "MalformedMessage")
"""Errors that are answers: the entity's code or the sender is wrong, and the cluster did what it should."""


def settled(names: NameSet, *by: str, window: str = RATE) -> str:
    """Messages that were settled, per second."""
    return total(names.counts(cluster.message_latency).rate(window), *by)


def missed(names: NameSet, *by: str, window: str = RATE) -> str:
    """The share of settled messages that missed the goal; nothing where no message was settled.

    A message misses it when its reply came later, or when it ended with an error that is no answer.
    """
    latency = cluster.message_latency
    in_time = names.buckets(latency, 'outcome="ok"', within=GOAL_S).rate(window)
    answers = names.counter(cluster.errors, f'type=~"{"|".join(ANSWERS)}"').rate(window)
    counted = names.counts(latency).rate(window)
    # The labels differ, so this is all of them together; the zeros keep those of which nothing met the goal.
    met = total(f"\n  {in_time}\n  or {answers}\n  or 0 * {counted}\n", *by)
    # Rates of series that begin at different moments are off by a little: never below zero.
    return f"clamp_min(1 - {ratio(met, settled(names, *by, window=window))}, 0)"
