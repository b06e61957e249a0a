"""The public metrics: what user code imports. Everything here works without a cluster.

``cluster`` is the namespace of the declared instruments: ``cluster.messages_sent.add(entity_type=..., ...)``.
"""

from observe.instrumented import instrument
from observe.instruments import cluster
from observe.labels import label
from observe.snapshot import HistogramView, MetricsSnapshot, Point, UnknownMetricError, snapshot
from observe.track import track_cluster

__all__ = [
    "HistogramView",
    "MetricsSnapshot",
    "Point",
    "UnknownMetricError",
    "cluster",
    "instrument",
    "label",
    "snapshot",
    "track_cluster",
]
