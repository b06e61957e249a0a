"""Messages while a node's telemetry goes to a collector of each behaviour. As a program it prints one JSON line.

It decides how the behaviours are compared: on one cluster, in turns, so that whatever else the machine does meets all
of them; and that each turn is long enough for exports, which here come every half second and not once a minute.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import ray

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.otlp_sink import BEHAVIOURS, Sink, sink
from cluster_app.bench.ray_instance import fresh_cluster, run_side
from cluster_app.ray_calls import agent_name, here

__all__ = ["EXPORT_INTERVAL_MS", "measure"]

EXPORT_INTERVAL_MS = 500


def measure(there: Sink, turns: int, messages: int, in_flight: int, entities: int) -> dict[str, Any]:
    """Messages per second, a figure per turn and behaviour; and ``agent_percent``: the agent's CPU, of one core."""
    found: dict[str, Any] = {behaviour: [] for behaviour in BEHAVIOURS}
    found["agent_percent"] = []
    with fresh_cluster() as cluster:
        counters = Counters(cluster, counter_ids(range(entities)))
        counters.pace(messages, in_flight)
        agent: Any = ray.get_actor(agent_name(here()), namespace="cluster_app")
        # How Linux numbers the CPU clock of another process.
        clock = ~int(ray.get(agent.pid.remote())) << 3 | 2
        for turn in range(turns):
            for behaviour in BEHAVIOURS if turn % 2 == 0 else reversed(BEHAVIOURS):
                there.be(behaviour)
                cpu_s, started_s = time.clock_gettime(clock), time.perf_counter()
                found[behaviour].append(counters.pace(messages, in_flight).per_s)
                spent_s = time.clock_gettime(clock) - cpu_s
                if behaviour == "healthy":
                    found["agent_percent"].append(100 * spent_s / (time.perf_counter() - started_s))
        there.be("healthy")
        check_counted(cluster, messages * (1 + turns * len(BEHAVIOURS)))
        found["exports"] = cluster.status().telemetry[0].exports
    return found


if __name__ == "__main__":
    with sink() as _there:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = _there.endpoint
        os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
        os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = str(EXPORT_INTERVAL_MS)
        run_side(partial(measure, _there))
