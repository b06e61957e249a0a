"""Entities with a process of their own that come and go, in turns with raw Ray actors. A program with one JSON line.

It decides what a start is, from sending the first message to its value, what it costs, all the CPU time that the
entity's process has taken by then, and what must not be left behind: processes, live entities, lanes, and series of
metrics beyond those that the first of them made. An actor is started beside each entity, so that a machine whose pace
changes in the course of a minute favours neither.
"""

from __future__ import annotations

import time
from typing import Any

from cluster_app.bench.departure import await_end, cpu_s_of, still_there
from cluster_app.bench.hosted_sum import HostedSum
from cluster_app.bench.pipeline import WrongValue, check_value
from cluster_app.bench.ray_actor_starts import start_actor
from cluster_app.bench.ray_instance import run_side

__all__ = ["measure"]

TYPE = "HostedSum"
WARM_UP = 1  # entity, and actor
GONE_S = 30.0  # the longest that one may take to leave


def measure(cluster: Any, entities: int) -> dict[str, Any]:
    """Start so many, each once the one before has gone, and as many actors; who begins changes from one to the next."""
    _start_entity(cluster, 0)
    start_actor(0, GONE_S)
    _await_counted(cluster, WARM_UP)
    lanes, series = _lanes(cluster), _series(cluster)
    ours: list[tuple[float, float]] = []
    raw: list[tuple[float, float]] = []
    pids: list[int] = []
    for number in range(WARM_UP, WARM_UP + entities):
        if number % 2:
            raw.append(start_actor(number, GONE_S))
        elapsed_s, taken_s, pid = _start_entity(cluster, number)
        ours.append((elapsed_s, taken_s))
        pids.append(pid)
        if not number % 2:
            raw.append(start_actor(number, GONE_S))
    if len(set(pids)) != entities:
        raise WrongValue(f"{entities} entities in {len(set(pids))} processes: not one of its own each")
    _await_counted(cluster, entities + WARM_UP)
    status = cluster.status()
    return {
        "starts_ms": [start_s * 1e3 for start_s, _ in ours],
        "cpu_ms": [taken_s * 1e3 for _, taken_s in ours],
        "raw_starts_ms": [start_s * 1e3 for start_s, _ in raw],
        "raw_cpu_ms": [taken_s * 1e3 for _, taken_s in raw],
        "left": {
            "processes": len(still_there(pids)),
            "entities": status.entities.get(TYPE, 0),
            "lanes": _lanes(cluster) - lanes,
            "series": _series(cluster) - series,
        },
    }


def _start_entity(cluster: Any, number: int) -> tuple[float, float, int]:
    """Start one, and have it go: seconds to its first value, of CPU by then, and its process."""
    hosted = cluster.entity(HostedSum, f"hosted-{number}")
    sent_s = time.perf_counter()
    value = hosted.increment.remote(1).result()
    elapsed_s = time.perf_counter() - sent_s
    check_value(number, value, 1)
    pid: int = hosted.pid.remote().result()
    taken_s = cpu_s_of(pid)
    await_end(pid, GONE_S)
    return elapsed_s, taken_s, pid


def _lanes(cluster: Any) -> int:
    return sum(runner.lanes for runner in cluster.status().runners)


def _series(cluster: Any) -> int:
    return len(list(cluster.metrics()))


def _await_counted(cluster: Any, entities: int) -> None:
    """Wait until as many have gone as came: their owner hears of a process's end a little later."""
    deadline = time.monotonic() + GONE_S
    while True:
        counted = cluster.metrics()
        came = counted.value("cluster_entity_activations_total", entity_type=TYPE)
        went = counted.value("cluster_entity_deactivations_total", entity_type=TYPE, reason="idle")
        if came == went == entities:
            return
        if time.monotonic() > deadline:
            raise WrongValue(f"{came:.0f} came and {went:.0f} went of {entities} entities")
        time.sleep(0.1)


if __name__ == "__main__":
    run_side(measure, cluster=True)
