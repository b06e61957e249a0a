"""A program with a cluster of two nodes of its own: says where large results of instrumented calls lie."""

from __future__ import annotations

import json
import time
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations

from observe.metrics import instrument, snapshot


class Far:
    def large(self) -> bytes:
        return bytes(20_000_000)


def main() -> None:
    """Call an actor on the other node, wait until the calls are counted, and print what holds the results."""
    cluster: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000},
    )
    cluster.add_node(num_cpus=1, object_store_memory=200_000_000)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        here = ray.get_runtime_context().get_node_id()
        wrapped: Any = instrument(ray.remote(Far).options(num_cpus=1).remote())
        references = [wrapped.large.remote() for _ in range(3)]
        deadline = time.monotonic() + 30
        while (ended := snapshot().value("cluster_message_latency_seconds", outcome="ok")) < len(references):
            assert time.monotonic() < deadline, list(snapshot())
            time.sleep(0.01)
        places = [get_object_locations([each])[each]["node_ids"] for each in references]
        print(
            json.dumps(
                {
                    "ended": ended,
                    "copies": [len(nodes) for nodes in places],
                    "here": [here in nodes for nodes in places],
                }
            )
        )
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
