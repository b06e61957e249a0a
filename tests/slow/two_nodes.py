"""A driver on a Ray of two nodes, run by `test_scale_down` in a process of its own; prints what it saw as JSON.

A process can be in one Ray only, and the session's has one node.
"""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster as RayCluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import cluster_app
from cluster_app import Cluster, ClusterConfig, DrainRefused, Entity, entity, message
from cluster_app.ray_calls import actor_names
from cluster_app.shard import ShardId, shard_number, shards_of
from cluster_app.shard_map import assign
from cluster_app.status import ClusterStatus
from tests.other_process import tell
from tests.ray.seen import seen

IDLE_NODE_S = 5.0  # long enough for a runner that has just started to be found and used


@entity(max_idle_time=None)
class Guest(Entity):
    @message
    def greet(self) -> str:
        return self.address.id

    @message
    def go(self) -> None:
        self.deactivate()


@entity(hosting="actor", max_idle_time=None)
class Lodger(Entity):
    @message
    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


def lodgings(cluster: Cluster) -> list[tuple[str, str]]:
    """Of two entities of each runner that have a process of their own: the runner's node and the process's."""
    status = seen(cluster, settled, within_s=60)
    nodes = {runner.id: runner.node_id for runner in status.runners}
    owners = assign(shards_of("default", 300), dict.fromkeys(nodes, 1.0))
    ids: dict[str, list[str]] = {node: [] for node in nodes.values()}
    for number in range(100):
        owner = owners[ShardId("default", shard_number("Lodger", f"lodger-{number}", 300))]
        ids[nodes[owner]].append(f"lodger-{number}")
    return [
        (node, cluster.entity(Lodger, entity_id).node.remote().result(timeout_s=60))
        for node, named in ids.items()
        for entity_id in named[:2]
    ]


def greet(cluster: Cluster, number: int) -> list[Guest]:
    """So many guests, each greeted once and answered."""
    guests = [cluster.entity(Guest, f"guest-{n}") for n in range(number)]
    replies = [guest.greet.remote() for guest in guests]
    assert [reply.result(timeout_s=30) for reply in replies] == [f"guest-{n}" for n in range(number)]
    return guests


def see_off(guests: list[Guest]) -> None:
    """All of them go."""
    for reply in [guest.go.remote() for guest in guests]:
        reply.result(timeout_s=30)


def settled(status: ClusterStatus) -> bool:
    """Whether every runner has the shards that the shard map gives it."""
    wished = Counter(assign(shards_of("default", 300), {r.id: 1.0 for r in status.runners}).values())
    return all(runner.shards == wished[runner.id] for runner in status.runners)


def until(condition: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What the condition gives as soon as that is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
    return found


def _received(node: dict[str, Any]) -> int:
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as page:
        lines = page.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("ray_cluster_messages_received_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in counts)


@ray.remote(num_cpus=0)
class Visitor:
    """An actor of the user's, which connects where it is."""

    def greet(self, times: int) -> str:
        with cluster_app.connect() as cluster:
            guest = cluster.entity(Guest, "visited")
            for reply in [guest.greet.remote() for _ in range(times)]:
                reply.result(timeout_s=30)
        return str(ray.get_runtime_context().get_node_id())


def main() -> dict[str, Any]:
    """Use two nodes, leave one idle, load it again, leave it again, connect there, drain it, and take it back."""
    rays = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    worker = rays.add_node(num_cpus=1).node_id
    ray.init(address=rays.address, log_to_driver=False)
    gcs = GcsClient(address=rays.address)

    def idle_ms() -> int:
        """For how long Ray's autoscaler takes the worker node for idle."""
        nodes = get_cluster_resource_state(gcs).node_states
        return int(next(node.idle_duration_ms for node in nodes if node.node_id.hex() == worker))

    def counted() -> dict[str, float]:
        metrics = cluster.metrics()
        return {
            "sent": metrics.value("cluster_messages_sent_total"),
            "received": metrics.value("cluster_messages_received_total"),
            "activations": metrics.value("cluster_entity_activations_total"),
            "errors": metrics.value("cluster_errors_total"),
            "lost": metrics.value("cluster_entity_deactivations_total", reason="lost"),
            "left": metrics.value("cluster_shard_handoffs_total", reason="leave", outcome="ok"),
            "runners": metrics.value("cluster_runners"),
        }

    def staff_there() -> list[str]:
        prefix = f"runner-{worker[:8]}-"
        return [name for name in actor_names("cluster_app") if name.startswith(prefix) or worker in name]

    def shown_by_ray() -> list[int]:
        """The messages that entities have received, by Ray's own metrics pages: of the head, and of the worker."""
        nodes = {node["NodeID"]: node for node in ray.nodes()}  # type: ignore[no-untyped-call]  # not annotated
        head = next(node_id for node_id in nodes if node_id != worker)
        return [_received(nodes[node_id]) for node_id in (head, worker)]

    saw: dict[str, Any] = {}
    config = ClusterConfig(idle_node_s=IDLE_NODE_S, crowded_entities=50)
    with cluster_app.connect(config=config) as cluster:
        # Each has all it is wished to have: shards still on their way would be given back later, and not be counted.
        both = seen(cluster, lambda s: len(s.runners) == 2 and s.shards == 300 and settled(s), within_s=60)
        guests = greet(cluster, 40)
        saw["used"] = {**counted(), "idle_ms": idle_ms()}
        saw["shards there"] = next(r.shards for r in both.runners if r.node_id == worker)

        see_off(guests)
        saw["received, by Ray"] = until(lambda: sum(shown := shown_by_ray()) == 80 and shown)
        until(lambda: not staff_there())
        saw["given up idle_ms"] = until(lambda: idle_ms() >= 1500 and idle_ms())
        saw["runner left"] = [r.node_id != worker for r in cluster.status().runners]
        saw["given up"], saw["given up again"] = counted(), counted()
        saw["given up, by Ray"] = until(lambda: not (shown := shown_by_ray())[1] and shown)

        guests = greet(cluster, 200)
        crowd = seen(cluster, lambda s: len(s.runners) == 2, within_s=60)
        saw["taken back"] = len(crowd.runners)
        until(lambda: cluster.status().shards == 300 and min(r.shards for r in cluster.status().runners) > 50)
        greet(cluster, 200)
        saw["loaded"] = {**counted(), "idle_ms": idle_ms()}

        see_off(guests)
        until(lambda: not staff_there())
        there: Any = Visitor.options(  # type: ignore[attr-defined]  # made by the decorator
            scheduling_strategy=NodeAffinitySchedulingStrategy(worker, soft=False)
        ).remote()
        saw["visited there"] = ray.get(there.greet.remote(10), timeout=60) == worker
        saw["staff for the visitor"] = len(staff_there()) > 0
        saw["visited"] = counted()

        seen(
            cluster,
            lambda s: s.shards == 300 and {r.node_id for r in s.runners if r.shards} > {worker},
            within_s=60,
        )
        result = cluster.drain(worker[:12], timeout_s=60)
        saw["drained"] = result.target == worker and result.shards
        until(lambda: not staff_there())
        saw["by drain"] = cluster.metrics().value(
            "cluster_shard_handoffs_total", reason="drain", outcome="ok"
        )
        try:
            cluster.drain(cluster.status().runners[0].node_id)
        except DrainRefused as refusal:
            saw["refusal"] = str(refusal)
        cluster.undrain(worker[:12])
        seen(cluster, lambda s: {r.node_id for r in s.runners if r.shards} > {worker}, within_s=60)
        greet(cluster, 10)
        saw["lodgings"] = lodgings(cluster)
        saw["undrained"] = counted()
        cluster.shutdown()
    ray.shutdown()
    rays.shutdown()  # type: ignore[no-untyped-call]  # not annotated
    return saw


if __name__ == "__main__":
    tell(main())
