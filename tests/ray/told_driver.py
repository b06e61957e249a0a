"""A driver that does what it is told on its standard input: one JSON object a line, answered by one line."""

from __future__ import annotations

import json
import sys
from typing import Any

import ray

import tests.ray.tallies
from cluster_app import Cluster, connect, gather
from observe.metrics import track_cluster


def _send(cluster: Cluster, entity_type: str, entity_id: str, count: int) -> int:
    tally = cluster.entity(getattr(tests.ray.tallies, entity_type), entity_id)
    values: list[int] = gather(*[tally.add.remote(1) for _ in range(count)], timeout_s=20)
    return values[-1]


def _hang(cluster: Cluster, entity_type: str, entity_id: str, count: int) -> int:
    tally = cluster.entity(getattr(tests.ray.tallies, entity_type), entity_id)
    for _ in range(count):
        tally.hang.remote()
    # Another entity's reply on the same lane: what was sent before it has arrived.
    return _send(cluster, entity_type, f"beside-{entity_id}", 1)


def _flood(cluster: Cluster, entity_type: str, entity_id: str) -> None:
    while True:
        print(json.dumps(_send(cluster, entity_type, entity_id, 1000)), flush=True)


def _track(entity_type: str, count: int) -> int:
    for _ in range(count):
        with track_cluster(operation="receive", entity_type=entity_type):
            pass
    return count


def main(namespace: str) -> None:
    """Join the Ray of the environment, and obey until the input ends."""
    ray.init(log_to_driver=False)
    with connect(namespace=namespace) as cluster:
        for line in sys.stdin:
            told: dict[str, Any] = json.loads(line)
            said = 0
            match told.pop("do"):
                case "send":
                    said = _send(cluster, **told)
                case "hang":
                    said = _hang(cluster, **told)
                case "flood":
                    _flood(cluster, **told)
                case "track":
                    said = _track(**told)
                case unknown:
                    raise ValueError(unknown)
            print(json.dumps(said), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
