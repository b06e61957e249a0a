"""One side: raw Ray calls, counted and timed by hand with the OpenTelemetry SDK. As a program it prints one JSON line.

It decides how a careful user would instrument calls at the least cost: instruments made once, attributes made once, one
`add` per call and one `record` per reply, as it is fetched. The reader collects nothing in between: no export is paid
for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.sums import Sum, sum_after

__all__ = ["AtGet", "measure"]

WARM_UP = 500  # calls
ATTRIBUTES = {"actor": "Sum", "method": "increment"}


class AtGet:
    """Calls that are counted when made, and timed once their values have been fetched.

    :param call: makes a call that adds so much.
    :param get: waits for some calls; their values.
    """

    def __init__(self, call: Callable[[int], Any], get: Callable[[list[Any]], Sequence[Any]]) -> None:
        self._call = call
        self._get = get
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        meter = self._provider.get_meter("bench")
        self._calls = meter.create_counter("calls")
        self._latency = meter.create_histogram("latency", unit="s")

    def send(self, _: int) -> tuple[Any, float]:
        """Make a call; what stands for it, and when it was made."""
        sent_s = time.perf_counter()
        self._calls.add(1, ATTRIBUTES)
        return self._call(1), sent_s

    def values(self, sent: list[tuple[Any, float]]) -> Sequence[Any]:
        """The values of some calls, once they are there."""
        got = self._get([reference for reference, _ in sent])
        record, clock = self._latency.record, time.perf_counter
        for _, sent_s in sent:
            record(clock() - sent_s, ATTRIBUTES)
        return got

    def end(self, calls: int) -> None:
        """Collect, and raise WrongValue unless exactly so many calls were counted and timed."""
        data = self._reader.get_metrics_data()
        points = {
            metric.name: metric.data.data_points[0]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        counted = {"calls": getattr(points.get("calls"), "value", 0)}
        counted["latency"] = getattr(points.get("latency"), "count", 0)
        self._provider.shutdown()
        if set(counted.values()) != {calls}:
            raise WrongValue(f"{counted} after {calls} calls")


def measure(messages: int, in_flight: int) -> Pace:
    """Call one actor `messages` times, and count and time each. Needs a Ray to be there."""
    import ray

    actor: Any = ray.remote(Sum).remote()
    by_hand = AtGet(actor.increment.remote, ray.get)
    for before, count in ((0, WARM_UP), (WARM_UP, messages)):
        pace = pipelined(
            by_hand.send,
            by_hand.values,
            partial(sum_after, before),
            messages=count,
            in_flight=in_flight,
        )
    by_hand.end(messages + WARM_UP)
    return pace


if __name__ == "__main__":
    run_side(measure)
