"""The dashboard that answers one question: what should `max_idle_time` be?

It decides what the answer is read from. No metric knows an entity's id, so none says that the same entity came back;
what the dashboard shows instead are the two costs that are weighed against each other: entities that only wait to be
let go, and activations.
"""

from __future__ import annotations

from cluster_app.dashboards.dashboard import Dashboard, Number, Row
from cluster_app.dashboards.message_rows import GOAL_LINE
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.panel import BAD, GOOD, Panel, Query, Step
from cluster_app.dashboards.series import less, quantile, ratio, total
from observe.instruments import cluster

__all__ = ["idle_time"]

RANGE = "$__range"
TYPE = "entity_type"
BY_TYPE = "{{entity_type}}"

QUESTION = """\
`max_idle_time` is how long an entity stays without a message. Too short, and entities are let go just before
their next message: that one waits for an activation, and state is read again. Too long, and memory is held by entities
that nobody asks for.

Choose one entity type above, and type in its `max_idle_time` as it is, and one that you think of. Choose a time
that has a whole cycle of your traffic, a day rather than an hour. Then read from left to right, row by row."""

LONGER = """\
**Make it longer** when most lives end idle, their number per live entity and hour is high although your ids are
the same all day, a life handles only a few messages, and an activation costs as much as several handlers, or its p99 is
near the goal of 100 ms."""

SHORTER = """\
**Make it shorter** when most live entities only wait to be let go, and few come back: activations hardly rise
after a shorter time was tried on some types. **Leave it** when activations are less than a hundredth of messages, and
memory is no concern."""

NEVER = """\
**Do without it** (`max_idle_time=None`) when the ids are few and known. **It isn't idleness** when lives end for other
reasons: handoffs that come again and again, entities that deactivate themselves, activations that fail."""


def idle_time(names: NameSet) -> Dashboard:
    """The dashboard on idle time for one set of names."""
    chosen = names.as_chosen()
    return Dashboard(
        uid=f"cluster-app-idle-time-{names.key}",
        title="cluster-app idle time" if names.key == "otlp" else f"cluster-app idle time ({names.key})",
        description=f"What should max_idle_time be? Metrics by {names.way}.",
        names=names,
        since="now-24h",
        numbers=(
            Number(
                "max_idle_time",
                "max_idle_time now, s",
                "The type's max_idle_time as it is, in seconds.",
                "60",
            ),
            Number("candidate", "and tried, s", "A max_idle_time that you think of, in seconds.", "300"),
        ),
        rows=(
            Row("The question", (Panel("How to read this", "text", QUESTION, width=24, height=5),)),
            _lives(chosen),
            _coming_back(chosen),
            _cost(chosen),
            _choice(chosen),
        ),
    )


def _lives(names: NameSet) -> Row:
    lifetime = names.buckets(cluster.entity_lifetime)
    gone = names.counter(cluster.entity_deactivations)
    return Row(
        "How entities live",
        (
            Panel(
                "Lifetimes",
                "buckets",
                "How many entities were let go at which age, over the time shown; each bar is named by its upper edge. "
                "The last max_idle_time of an idle life was spent waiting: lives just above it had their messages at "
                "once and none later.",
                (Query(total(lifetime.increase(RANGE), "le"), "{{le}}"),),
                "short",
            ),
            Panel(
                "Lifetimes by type",
                "lines",
                "Age at which entities are let go. A median that is only a little more than max_idle_time means that "
                "most lives are one short burst of messages.",
                (
                    Query(quantile(0.5, lifetime, TYPE), f"p50 {BY_TYPE}"),
                    Query(quantile(0.9, lifetime, TYPE), f"p90 {BY_TYPE}"),
                ),
                "s",
            ),
            Panel(
                "Lives that ended idle",
                "lines",
                "Share of deactivations whose reason was idleness. Only those are moved by max_idle_time.",
                (
                    Query(
                        ratio(
                            total(
                                names.counter(cluster.entity_deactivations, 'reason="idle"').rate(),
                                TYPE,
                            ),
                            total(gone.rate(), TYPE),
                        ),
                        BY_TYPE,
                    ),
                ),
                "percentunit",
            ),
        ),
    )


def _coming_back(names: NameSet) -> Row:
    activations = total(names.counter(cluster.entity_activations).rate(), TYPE)
    live = total(names.gauge(cluster.entities), TYPE)
    received = total(names.counter(cluster.messages_received).rate(), TYPE)
    return Row(
        "How often they come back",
        (
            Panel(
                "Activations",
                "lines",
                "Entities that come to life per second. Where the ids are the same all day, all of these but each id's "
                "first are re-activations.",
                (Query(activations, BY_TYPE),),
                "ops",
            ),
            Panel(
                "Re-activations",
                "lines",
                "Activations per second beyond those by which the number of live entities grew: so many took the place "
                "of one that was let go. Of the same id or of another: that is for you to know.",
                (
                    Query(
                        f"clamp_min({less(activations, f'clamp_min({_growth(names)}, 0)')}, 0)",
                        BY_TYPE,
                    ),
                ),
                "ops",
            ),
            Panel(
                "Lives per place and hour",
                "lines",
                "Activations per hour for each live entity: how often each place is filled anew. 60 means that an "
                "entity lives a minute.",
                (Query(ratio(f"3600 * {activations}", live), BY_TYPE),),
            ),
            Panel(
                "Messages per activation",
                "lines",
                "Messages received for each activation. Below 2 nearly each message pays for an activation.",
                (Query(ratio(received, activations), BY_TYPE),),
                "short",
                (Step(None, BAD), Step(2, GOOD)),
                width=12,
            ),
            Panel(
                "Messages that wait for an activation",
                "lines",
                "Share of received messages that found no live entity. That share has the activation's duration on top "
                "of its latency.",
                (Query(ratio(activations, received), BY_TYPE),),
                "percentunit",
                width=12,
            ),
        ),
    )


def _growth(names: NameSet) -> str:
    """How fast the number of live entities grows, per second."""
    return f"deriv({total(names.gauge(cluster.entities), TYPE)}[10m:1m])"


def _cost(names: NameSet) -> Row:
    activation, handler = cluster.entity_activation, cluster.handler_duration
    spent = total(names.sums(activation).rate(), TYPE)
    handled = total(names.sums(handler).rate(), TYPE)
    return Row(
        "What coming back costs",
        (
            Panel(
                "Duration of an activation",
                "lines",
                "From the first message to an entity that is alive: what a longer idle time saves its senders.",
                (
                    Query(
                        ratio(spent, total(names.counts(activation).rate(), TYPE)),
                        f"mean {BY_TYPE}",
                    ),
                    Query(quantile(0.99, names.buckets(activation), TYPE), f"p99 {BY_TYPE}"),
                ),
                "s",
                GOAL_LINE,
            ),
            Panel(
                "Activation against one message",
                "lines",
                "A mean activation, in mean handlers of the same type: as many messages as one could handle instead.",
                (
                    Query(
                        ratio(
                            f"({ratio(spent, total(names.counts(activation).rate(), TYPE))})",
                            f"({ratio(handled, total(names.counts(handler).rate(), TYPE))})",
                        ),
                        BY_TYPE,
                    ),
                ),
            ),
            Panel(
                "Activations that fail",
                "lines",
                "Activations per second that raised. They end their messages with ActivationFailed, and no idle time "
                "mends them.",
                (Query(total(names.counts(activation, 'outcome="error"').rate(), TYPE), BY_TYPE),),
                "ops",
            ),
        ),
    )


def _choice(names: NameSet) -> Row:
    entities = names.gauge(cluster.entities)
    ended_idle = names.counter(cluster.entity_deactivations, 'reason="idle"').rate()
    live, idle = total(entities, TYPE), total(ended_idle, TYPE)
    # All of them together, as their labels differ: a type may have lives that ended, and none that goes on.
    tried = total(f"{entities} or {ended_idle} * ($candidate - $max_idle_time)", TYPE)
    return Row(
        "Before and after",
        (
            Panel(
                "Live, and of them only waiting",
                "lines",
                "Live entities; and how many of them have had their last message and wait out max_idle_time: lives "
                "that end idle per second, times the max_idle_time typed in above. That many a shorter time would give "
                "back at most.",
                (
                    Query(live, f"live {BY_TYPE}"),
                    Query(f"{idle} * $max_idle_time", f"only waiting {BY_TYPE}"),
                ),
                width=12,
            ),
            Panel(
                "Live with the one that is tried",
                "lines",
                "Live entities as they are, and as they would be if every idle life lasted longer or shorter by the "
                "difference. With a longer time it is an upper bound: whoever comes back in that time needs no second "
                "place.",
                (
                    Query(live, f"now {BY_TYPE}"),
                    Query(f"clamp_min({tried}, 0)", f"tried {BY_TYPE}"),
                ),
                width=12,
            ),
            Panel("Longer", "text", LONGER, width=8, height=6),
            Panel("Shorter", "text", SHORTER, width=8, height=6),
            Panel("Neither", "text", NEVER, width=8, height=6),
        ),
    )
