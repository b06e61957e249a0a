"""When the node's metrics go to Ray's own page: a thread of the node agent.

Decides the rhythm, and that trouble there is told once a minute and breaks nothing. Does not decide what is published
(`ray_metrics`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from observe.ray_metrics import RayMetrics
from observe.totals import Totals

__all__ = ["RayPublisher"]

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 60.0
_SHORTEST_INTERVAL_S = 1.0  # Ray reports no oftener, whatever is configured


class RayPublisher:
    """Publishes what `read` gives, until `stop`.

    At once, and then twice in each of Ray's report intervals: Ray drops a gauge that has not been set for two.
    Nothing is read, and no thread stays, where Ray's metrics are off.

    :param node_id: the node of this process.
    :param read: totals and gauges of the node as they are now; called on the publisher's thread.
    :param metrics: makes what they are set on.
    :param now: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        node_id: str,
        read: Callable[[], Totals],
        *,
        metrics: Callable[[], RayMetrics] = RayMetrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id = node_id
        self._read = read
        self._make = metrics
        self._metrics: RayMetrics | None = None
        self._now = now
        self._told_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-app-ray-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; what is being published is, when this returns."""
        self._stopped.set()
        self._thread.join()

    def publish(self) -> None:
        """Publish once. Trouble is told once a minute, and raises nothing."""
        try:
            if self._metrics is None:
                self._metrics = self._make()
            self._metrics.publish(self._read())
        except Exception as error:
            now = self._now()
            if self._told_at is None or now - self._told_at >= _LOG_INTERVAL_S:
                self._told_at = now
                logger.warning("cannot publish on Ray's metrics page: %s: %s", type(error).__name__, error)

    def _run(self) -> None:
        try:
            if not ray_publishes(self._node_id):
                return
            pause_s = max(_report_interval_s(), _SHORTEST_INTERVAL_S) / 2
        except Exception:
            logger.warning("nothing will be on Ray's metrics page of this node", exc_info=True)
            return
        while not self._stopped.is_set():
            self.publish()
            self._stopped.wait(pause_s)


def ray_publishes(node_id: str) -> bool:
    """Whether that node has a metrics page of Ray's; with `RAY_enable_metrics_collection=0` it has none."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # not annotated
    ports = {node["NodeID"]: node.get("MetricsExportPort", 0) for node in nodes}
    return int(ports.get(node_id, 0)) > 0


def _report_interval_s() -> float:
    config: Any = ray._config
    return float(config.metrics_report_interval_ms()) / 1000
