"""What happened in a cluster between two readings of its counts.

Decides how two cumulative readings become rates and latencies. A point that has shrunk belongs to a node that has
left with its counts: it says nothing about this interval and is left out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cluster_app.status import ClusterStatus
from observe.snapshot import MetricsSnapshot
from observe.totals import Totals, merge, subtract

__all__ = ["Activity", "TypeActivity", "activity_between"]


@dataclasses.dataclass(frozen=True, slots=True)
class TypeActivity:
    """One entity type in an interval.

    :ivar live: its living entities, at the end.
    :ivar messages_per_s: messages received.
    :ivar errors_per_s: replies that were errors.
    :ivar p50_s, p99_s: latency as the senders see it, in seconds; None when no reply came.
    """

    type: str
    live: int
    messages_per_s: float
    errors_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Activity:
    """A cluster in an interval.

    :ivar seconds: how long the interval was.
    :ivar types: the busiest first.
    """

    seconds: float
    status: ClusterStatus
    types: list[TypeActivity]

    @property
    def messages_per_s(self) -> float:
        """Messages received by all types."""
        return sum(found.messages_per_s for found in self.types)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts and lists, ready for JSON; the status's fields are beside the types."""
        return {
            "seconds": self.seconds,
            "messages_per_s": self.messages_per_s,
            "types": [dataclasses.asdict(found) for found in self.types],
            **self.status.as_dict(),
        }


def activity_between(
    before: MetricsSnapshot, after: MetricsSnapshot, status: ClusterStatus, seconds: float
) -> Activity:
    """What happened between two readings that were `seconds` apart."""
    grown = MetricsSnapshot(_grown(before.totals, after.totals))
    counted = {
        point.labels["entity_type"]
        for point in grown
        if point.name in ("cluster_messages_received_total", "cluster_message_latency_seconds")
    }
    types = [_of(name, grown, status, seconds) for name in counted | status.entities.keys()]
    return Activity(seconds, status, sorted(types, key=lambda found: (-found.messages_per_s, found.type)))


def _of(name: str, grown: MetricsSnapshot, status: ClusterStatus, seconds: float) -> TypeActivity:
    latency = grown.histogram("cluster_message_latency_seconds", entity_type=name)
    p50_s, p99_s = (None if math.isnan(s) else s for s in (latency.quantile(0.5), latency.quantile(0.99)))
    return TypeActivity(
        name,
        status.entities.get(name, 0),
        grown.value("cluster_messages_received_total", entity_type=name) / seconds,
        grown.value("cluster_errors_total", entity_type=name) / seconds,
        p50_s,
        p99_s,
    )


def _grown(before: Totals, after: Totals) -> Totals:
    parts = []
    for key, value in after.items():
        earlier = Totals({key: before[key]}) if key in before else Totals()
        try:
            parts.append(subtract(Totals({key: value}), earlier))
        except ValueError:
            continue  # it has shrunk
    return merge(parts)
