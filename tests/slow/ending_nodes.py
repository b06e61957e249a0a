"""A driver on a Ray whose nodes and runners are told to end, run by `test_ending_nodes` in a process of its own.

It prints what it saw as JSON. A process can be in one Ray only, and the session's has one node.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import worker
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.cluster_utils import Cluster as RayCluster
from ray.core.generated import autoscaler_pb2

import cluster_app
from cluster_app import (
    Cluster,
    ClusterConfig,
    ClusterError,
    DrainTimeout,
    Entity,
    EntityResponse,
    entity,
    message,
)
from cluster_app.ray_calls import actor_names
from cluster_app.shard import shard_number
from cluster_app.status import RunnerStatus
from tests.other_process import tell
from tests.ray.seen import seen
from tests.slow.two_nodes import settled, until

NOTICE_S = 10.0


@entity(max_idle_time=None)
class Porter(Entity):
    def __init__(self) -> None:
        self.begun = 0

    @message
    def process(self) -> int:
        return os.getpid()

    @message
    async def carry(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    @message(idempotent=True)
    async def carry_safely(self, seconds: float, heavy_on: int) -> int:
        await asyncio.sleep(seconds if os.getpid() == heavy_on else 0.0)
        return os.getpid()


def porters_on(cluster: Cluster, pid: int, number: int) -> list[Porter]:
    """So many that live on that runner, each in a shard of its own."""
    names = [f"porter-{n}" for n in range(100)]
    homes = {name: cluster.entity(Porter, name).process.remote() for name in names}
    there = {
        shard_number("Porter", name, 300): name for name, home in homes.items() if home.result(30) == pid
    }
    return [cluster.entity(Porter, name) for name in list(there.values())[:number]]


@contextmanager
def load(cluster: Cluster) -> Iterator[list[EntityResponse[int]]]:
    """Messages to a hundred entities, some hundreds a second, while the block runs."""
    porters = [cluster.entity(Porter, f"busy-{n}") for n in range(100)]
    replies = [porter.process.remote() for porter in porters]
    replies[-1].result(30)
    over = threading.Event()

    def drive() -> None:
        while not over.is_set():
            mine = [porter.process.remote() for porter in porters]
            replies.extend(mine)
            mine[-1].result(30)

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        yield replies
    finally:
        over.set()
        driver.join()


def errors_of(replies: list[EntityResponse[int]]) -> list[str]:
    """How those ended that did not end well."""
    for reply in replies:
        with suppress(ClusterError):
            reply.result(60)
    return [repr(error) for reply in replies if (error := reply.exception()) is not None]


def fate(reply: EntityResponse[int]) -> dict[str, Any]:
    """How a message ended, and when."""
    started = time.monotonic()
    try:
        return {"value": reply.result(60), "s": time.monotonic() - started}
    except ClusterError as error:
        return {
            "error": error.reason,
            "may_have_run": error.may_have_run,
            "s": time.monotonic() - started,
        }


def ends_within(process: int, seconds: float) -> float | None:
    """After how long a process has ended; None if it has not."""
    started = time.monotonic()
    over = bool(select.select([process], [], [], seconds)[0])
    os.close(process)
    return time.monotonic() - started if over else None


def logged(text: str) -> list[str]:
    """The lines of the service's processes that have this in them."""
    ray_worker: Any = worker
    node = ray_worker._global_node  # where its session is
    files = Path(node.get_session_dir_path(), "logs").glob("worker-*.err")
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    return [line for line in lines if text in line]


def runner_on(cluster: Cluster, node: str) -> RunnerStatus:
    """The one runner of that node, when both nodes have what is theirs."""
    status = seen(cluster, lambda s: len(s.runners) == 2 and s.shards == 300 and settled(s), within_s=60)
    return next(runner for runner in status.runners if runner.node_id == node)


def handoffs(cluster: Cluster, reason: str, outcome: str = "ok") -> float:
    """How many shards have moved for that reason."""
    return cluster.metrics().value("cluster_shard_handoffs_total", reason=reason, outcome=outcome)


def told_to_end(cluster: Cluster, worker: str) -> dict[str, Any]:
    """SIGTERM to a runner, under load; then twice to one with a long handler."""
    saw: dict[str, Any] = {}
    runner = runner_on(cluster, worker)
    before = handoffs(cluster, "leave")
    with load(cluster) as replies:
        process = os.pidfd_open(runner.pid)
        os.kill(runner.pid, signal.SIGTERM)
        saw["ended after"] = ends_within(process, 20)
    saw["errors"] = errors_of(replies)
    saw["sent"] = len(replies)
    saw["moved"], saw["had"] = handoffs(cluster, "leave") - before, runner.shards
    saw["said"] = [line for line in logged("told to end by SIGTERM") if runner.id in line]

    again = runner_on(cluster, worker)
    saw["replaced"] = again.id != runner.id
    (porter,) = porters_on(cluster, again.pid, 1)
    reply = porter.carry.remote(50.0)
    until(lambda: not reply.done() and again.id in [r.id for r in cluster.status().runners])
    process = os.pidfd_open(again.pid)
    os.kill(again.pid, signal.SIGTERM)
    until(lambda: [line for line in logged("told to end by SIGTERM") if again.id in line])
    os.kill(again.pid, signal.SIGTERM)
    saw["twice, ended after"] = ends_within(process, 20)
    saw["twice"] = fate(reply)
    saw["twice, named"] = [line for line in logged("cut short") if again.id in line]
    return saw


def drained(cluster: Cluster, worker: str) -> dict[str, Any]:
    """`cluster.drain` with a handler that takes longer."""
    runner = runner_on(cluster, worker)
    (porter,) = porters_on(cluster, runner.pid, 1)
    reply = porter.carry.remote(4.0)
    porter_name = str(porter)
    saw: dict[str, Any] = {"porter": porter_name}
    try:
        cluster.drain(worker, timeout_s=1.0)
    except DrainTimeout as late:
        saw.update(held=late.held, running=late.running, said=str(late))
    saw["runner"] = runner.id
    saw["shards"] = cluster.drain(worker, timeout_s=30.0).shards
    saw["fate"] = fate(reply)
    cluster.undrain(worker)
    return saw


def taken_away(cluster: Cluster, worker: str, gcs: Any, namespace: str) -> dict[str, Any]:
    """Ray drains a node, as for one that is pre-empted, with handlers that run longer than it has."""
    saw: dict[str, Any] = {}
    runner = runner_on(cluster, worker)
    mine = porters_on(cluster, runner.pid, 2)
    lost = mine[0].carry.remote(60.0)
    safe = mine[1].carry_safely.remote(60.0, runner.pid)
    process = os.pidfd_open(runner.pid)
    before = {reason: handoffs(cluster, reason) for reason in ("drain", "lost", "leave")}
    with load(cluster) as replies:
        started, deadline_ms = time.monotonic(), int((time.time() + NOTICE_S) * 1000)
        reasons: Any = autoscaler_pb2  # generated
        preempted = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        saw["accepted"] = gcs.drain_node(worker, preempted, "pre-empted", deadline_ms)[0]
        until(lambda: [r for r in cluster.status().runners if r.node_id == worker and r.shards <= 2])
        saw["emptied after"] = time.monotonic() - started
        ends_within(process, 20)
        saw["runner ended after"] = time.monotonic() - started
        saw["lost"], saw["safe"] = fate(lost), fate(safe)
        saw["fates after"] = time.monotonic() - started
        nodes: Any = ray.nodes
        until(lambda: [n["NodeID"] for n in nodes() if n["NodeID"] == worker and not n["Alive"]])
        saw["node gone after"] = time.monotonic() - started
    saw["errors"], saw["sent"] = errors_of(replies), len(replies)
    saw["pid"], saw["had"] = runner.pid, runner.shards
    saw["moved"] = {reason: handoffs(cluster, reason) - before[reason] for reason in before}
    saw["moved badly"] = handoffs(cluster, "drain", "error")
    saw["runners there"] = [
        name for name in actor_names(namespace) if name.startswith(f"runner-{worker[:8]}")
    ]
    saw["told"] = [line for line in logged("is about to take node") if worker in line]
    saw["named"] = [line for line in logged("cut short") if runner.id in line]
    saw["porters"] = [str(porter) for porter in mine]
    return saw


def main() -> dict[str, Any]:
    """All of it, one after the other."""
    rays = RayCluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    worker = rays.add_node(num_cpus=2, include_dashboard=False).node_id
    namespace = "cluster_app"
    ray.init(address=rays.address, namespace=namespace, log_to_driver=False)
    gcs = GcsClient(address=rays.address)
    saw: dict[str, Any] = {}
    with cluster_app.connect(config=ClusterConfig(idle_node_s=None, message_timeout_s=90.0)) as cluster:
        saw["told"] = told_to_end(cluster, worker)
        saw["drained"] = drained(cluster, worker)
        before = cluster.metrics()
        saw["taken"] = taken_away(cluster, worker, gcs, namespace)
        after = cluster.metrics()
        name = "cluster_messages_received_total"
        saw["received"] = after.value(name) - before.value(name)
        saw["runners"] = [runner.node_id != worker for runner in cluster.status().runners]
        cluster.shutdown()
    ray.shutdown()
    rays.shutdown()  # type: ignore[no-untyped-call]  # not annotated
    return saw


if __name__ == "__main__":
    tell(main())
