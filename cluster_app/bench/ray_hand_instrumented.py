"""One side: raw Ray calls, counted and timed by hand with the OpenTelemetry SDK. As a program it prints one JSON line.

It decides how a careful user would instrument calls: instruments made once, attributes made once, one `add` per call
and one `record` per reply. The reader collects nothing in between: no export is paid for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_instance import fresh_ray
from cluster_app.bench.sums import Sum, sum_after

__all__ = ["main", "measure"]

WARM_UP = 500  # calls
ATTRIBUTES = {"actor": "Sum", "method": "increment"}


def measure(messages: int, in_flight: int) -> Pace:
    """Call one actor `messages` times, and count and time each. Needs a Ray to be there."""
    import ray

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("bench")
    calls = meter.create_counter("calls")
    latency = meter.create_histogram("latency", unit="s")
    actor: Any = ray.remote(Sum).remote()
    increment = actor.increment
    clock = time.perf_counter

    def send(_: int) -> tuple[Any, float]:
        sent_s = clock()
        calls.add(1, ATTRIBUTES)
        return increment.remote(1), sent_s

    def values(sent: list[tuple[Any, float]]) -> Sequence[Any]:
        got = ray.get([reference for reference, _ in sent])
        for _, sent_s in sent:
            latency.record(clock() - sent_s, ATTRIBUTES)
        return got

    for before, count in ((0, WARM_UP), (WARM_UP, messages)):
        pace = pipelined(
            send,
            values,
            partial(sum_after, before),
            messages=count,
            in_flight=in_flight,
        )
    _check_counted(reader, messages + WARM_UP)
    provider.shutdown()
    return pace


def _check_counted(reader: InMemoryMetricReader, calls: int) -> None:
    data = reader.get_metrics_data()
    points = {
        metric.name: metric.data.data_points[0]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    counted = {"calls": getattr(points.get("calls"), "value", 0)}
    counted["latency"] = getattr(points.get("latency"), "count", 0)
    if set(counted.values()) != {calls}:
        raise WrongValue(f"{counted} after {calls} calls")


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray without any process of ours."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        pace = measure(asked["messages"], asked["in_flight"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
