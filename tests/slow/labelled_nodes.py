"""A driver on a Ray of nodes with labels, run by `test_labelled_nodes` in a process of its own; prints what it saw.

A process can be in one Ray only, and the session's has one node.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray
from ray.cluster_utils import Cluster as RayCluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import cluster_app
from cluster_app import Cluster, ClusterConfig, DrainRefused, Entity, RunnerNotRegistered, entity, message
from cluster_app.ray_calls import actor_names
from cluster_app.shard import shards_of
from cluster_app.shard_map import assign
from cluster_app.status import ClusterStatus
from tests.other_process import tell
from tests.ray.seen import seen


class Located(Entity):
    @message
    def where(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


@entity()
class Anywhere(Located):
    """May be on any node that has a runner."""


@entity(group="gpu")
class Pinned(Located):
    """May be on labelled nodes only."""


@entity(group="quantum")
class Nowhere(Located):
    """Asks for what no node has."""


@ray.remote(num_cpus=0)
class Visitor:
    """Connects on a node that has no runner."""

    def where(self) -> str:
        with cluster_app.connect() as cluster:
            return cluster.entity(Pinned, "visited").where.remote().result(timeout_s=60)


def homes(cluster: Cluster, kind: type[Located], number: int = 40) -> Counter[str]:
    """How many of so many entities are on each node."""
    replies = [cluster.entity(kind, f"{n}").where.remote() for n in range(number)]
    return Counter(reply.result(timeout_s=60) for reply in replies)


def refusal(cluster: Cluster, kind: type[Located], timeout_s: float) -> str:
    """How a message ends that nobody can serve."""
    reply = cluster.entity(kind, "refused").where.options(timeout_s=timeout_s).remote()
    try:
        return f"served by {reply.result(timeout_s=60)}"
    except RunnerNotRegistered as error:
        return str(error)


def main() -> dict[str, Any]:
    """Use a head, a labelled node and one that the configuration leaves out; lose the labelled one and get another."""
    rays = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    labelled = rays.add_node(num_cpus=1, labels={"pool": "gpu", "cluster_app.weight": "2"})
    left_out = rays.add_node(num_cpus=1, labels={"pool": "batch"}).node_id
    ray.init(address=rays.address, log_to_driver=False)
    names = {labelled.node_id: "labelled", left_out: "left out"}

    def named(node_id: str) -> str:
        return names.get(node_id, "head")

    def settled(status: ClusterStatus) -> bool:
        """Whether the head's runner and the labelled node's have the shards that they should."""
        by_node = {named(runner.node_id): runner for runner in status.runners}
        if set(by_node) != {"head", "labelled"}:
            return False
        weights = {by_node["head"].id: 1.0, by_node["labelled"].id: 2.0}
        wished = Counter(assign(shards_of("default", 300), weights).values())
        wished[by_node["labelled"].id] += 300  # of the pinned group
        return all(runner.shards == wished[runner.id] for runner in status.runners)

    config = ClusterConfig(
        lease_s=1.0,
        idle_node_s=None,
        runner_nodes={"pool": "!batch"},
        groups={"gpu": {"pool": "gpu"}, "quantum": {"qubits": 8}},
    )
    saw: dict[str, Any] = {}
    with cluster_app.connect(config=config) as cluster:
        saw["pinned"] = {named(node): count for node, count in homes(cluster, Pinned).items()}
        seen(cluster, settled, within_s=60)
        saw["anywhere"] = sorted(named(node) for node in homes(cluster, Anywhere))
        saw["nowhere"] = refusal(cluster, Nowhere, 2.0)

        visitors: Any = Visitor
        visitor = visitors.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(left_out, soft=False)
        ).remote()
        saw["visited"] = named(ray.get(visitor.where.remote(), timeout=90))
        staff = actor_names("cluster_app")
        saw["left out has"] = sorted(
            name.partition("-")[0] for name in staff if left_out[:8] in name and not name.startswith("entity")
        )
        ray.kill(visitor)

        try:
            cluster.drain(labelled.node_id)
        except DrainRefused as error:
            saw["drain"] = str(error).replace(labelled.node_id, "NODE")

        rays.remove_node(labelled)
        saw["lost"] = refusal(cluster, Pinned, 4.0)
        another = rays.add_node(num_cpus=1, labels={"pool": "gpu"}).node_id
        names[another] = "another"
        reply = cluster.entity(Pinned, "again").where.options(timeout_s=60).remote()
        saw["again"] = named(reply.result(timeout_s=90))
        cluster.shutdown()
    ray.shutdown()
    rays.shutdown()  # type: ignore[no-untyped-call]  # not annotated
    return saw


if __name__ == "__main__":
    tell(main())
