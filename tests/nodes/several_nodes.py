"""A Ray of several nodes on this machine, a cluster on it, and a hand on each of its processes.

This process becomes a driver on one of the nodes. Nothing is shared with another Ray on this machine: its folder is its
own. Leaving ends all that was started, whatever the test has stopped or killed of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from unittest import mock

import psutil
import ray
from ray._private import services
from ray.cluster_utils import Cluster as RayCluster
from ray.exceptions import RayError

import cluster_app
from cluster_app import Cluster, ClusterConfig
from cluster_app.ray_calls import COORDINATOR, agent_name, find_actor
from cluster_app.shard import ShardId, shard_number, shards_of
from cluster_app.shard_map import assign
from cluster_app.status import ClusterStatus, RunnerStatus
from tests.nodes.processes import adopt_orphans, descendants, end_all, ending, kill, stop, wake
from tests.ray.seen import seen

__all__ = ["QUICK_REPORT", "SeveralNodes", "owners", "settled", "several_nodes"]

# Ray takes a node that says nothing for dead after about 2 s, and not after half a minute.
QUICK_REPORT = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
_SHARDS = 300
_ROOM_BYTES = 80 * 1024 * 1024  # of each node's object store


class SeveralNodes:
    """The nodes of one Ray, and the processes of the clusters on it.

    :param rays: started, with its head node only.
    """

    def __init__(self, rays: RayCluster) -> None:
        self._rays = rays
        head: Any = rays.head_node
        self._nodes: dict[str, Any] = {head.node_id: head}
        self._reap(head)
        self._workers: dict[str, list[psutil.Process]] = {}  # of nodes whose raylet was killed
        self._stopped: set[int] = set()

    # -- nodes

    @property
    def address(self) -> str:
        """Where a driver of another process comes in."""
        return str(self._rays.address)

    @property
    def head(self) -> str:
        """The id of the head node."""
        return str(self._rays.head_node.node_id)  # type: ignore[attr-defined]

    @property
    def node_ids(self) -> list[str]:
        """The nodes, the head first."""
        return list(self._nodes)

    def add_node(self, **options: Any) -> str:
        """One more node, with one CPU unless told otherwise; returns its id as soon as Ray knows it."""
        options = {"num_cpus": 1, "object_store_memory": _ROOM_BYTES, "include_dashboard": False} | options
        node: Any = self._rays.add_node(**options)
        self._nodes[node.node_id] = node
        self._reap(node)
        return str(node.node_id)

    @staticmethod
    def _reap(node: Any) -> None:
        """A raylet that has ended must not stay a zombie: its workers would take it for alive, and not end with it."""
        raylet = node.all_processes["raylet"][0].process
        threading.Thread(target=raylet.wait, name=f"reap-{raylet.pid}", daemon=True).start()

    def remove_node(self, node_id: str, *, graceful: bool = True) -> None:
        """End a node's processes: in good order if `graceful`, else by SIGKILL.

        Also of one whose raylet has been killed: what is left of it, its workers too.
        """
        workers = self._workers.pop(node_id, None) or self._workers_of(node_id)
        self._rays.remove_node(self._nodes.pop(node_id), allow_graceful=graceful)
        end_all(workers)

    def raylet_pid(self, node_id: str) -> int:
        """The process of the node's raylet."""
        return int(self._nodes[node_id].all_processes["raylet"][0].process.pid)

    def kill_raylet(self, node_id: str) -> float:
        """End a node's raylet by SIGKILL, which leaves its workers orphans; returns when that was sent.

        To be followed by `remove_node`, when the test has seen what it wants.
        """
        self._workers[node_id] = self._workers_of(node_id)
        process = self._nodes[node_id].all_processes["raylet"][0].process
        return kill(process.pid)

    def _workers_of(self, node_id: str) -> list[psutil.Process]:
        try:
            found: list[psutil.Process] = psutil.Process(self.raylet_pid(node_id)).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return found

    # -- clusters

    @contextlib.contextmanager
    def cluster(
        self, config: ClusterConfig | None = None, namespace: str = "cluster_app"
    ) -> Iterator[Cluster]:
        """A cluster of this Ray's, connected; the service ends with it."""
        with cluster_app.connect(namespace=namespace, config=config) as cluster:
            try:
                yield cluster
            finally:
                self.wake_all()
                cluster.shutdown()

    def settled(
        self, cluster: Cluster, *, runners: int | None = None, within_s: float = 60.0
    ) -> ClusterStatus:
        """The status once so many runners (one per node) are healthy and each has all shards it is wished to have."""
        wished = len(self._nodes) if runners is None else runners
        return seen(
            cluster, lambda status: len(status.runners) == wished and settled(status), within_s=within_s
        )

    # -- processes

    def coordinator_pid(self, namespace: str = "cluster_app", *, other_than: int = 0) -> int:
        """The process of the coordinator that answers by name, as soon as that is another one."""
        return self._told(
            COORDINATOR,
            namespace,
            lambda actor: actor.status.remote(),
            other_than,
            lambda status: int(status["coordinator"]["pid"]),
        )

    def agent_pid(self, node_id: str, namespace: str = "cluster_app", *, other_than: int = 0) -> int:
        """The process of a node's agent, as soon as that is another one."""
        return self._told(agent_name(node_id), namespace, lambda actor: actor.pid.remote(), other_than)

    @staticmethod
    def _told(
        name: str,
        namespace: str,
        ask: Callable[[Any], Any],
        other_than: int,
        read: Callable[[Any], int] = int,
        within_s: float = 30.0,
    ) -> int:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            actor = find_actor(name, namespace)
            if actor is not None:
                with contextlib.suppress(RayError, TimeoutError):
                    pid = read(ray.get(ask(actor), timeout=5))
                    if pid != other_than:
                        return pid
            time.sleep(0.02)
        raise AssertionError(f"after {within_s} s: no {name} with another process than {other_than}")

    def ids_on(self, status: ClusterStatus, node_id: str, entity_type: str, number: int) -> list[str]:
        """So many ids of that type whose shards belong to the node's runner."""
        runner, of = self.runner_on(status, node_id), owners(status)
        named = (f"{entity_type.lower()}-{n}" for n in itertools.count())
        here = (
            i for i in named if of[ShardId("default", shard_number(entity_type, i, _SHARDS))] == runner.id
        )
        return list(itertools.islice(here, number))

    def home_of(self, status: ClusterStatus, entity_type: str, entity_id: str) -> str:
        """The node whose runner the entity's shard belongs to."""
        owner = owners(status)[ShardId("default", shard_number(entity_type, entity_id, _SHARDS))]
        return next(runner.node_id for runner in status.runners if runner.id == owner)

    def runner_on(self, status: ClusterStatus, node_id: str) -> RunnerStatus:
        """The one runner of a node."""
        (found,) = [runner for runner in status.runners if runner.node_id == node_id]
        return found

    def stop(self, pid: int) -> float:
        """Have a process stand still until `wake`, or the end of the test; returns since when."""
        self._stopped.add(pid)
        return stop(pid)

    def wake(self, pid: int) -> float:
        """Have it go on; returns when."""
        self._stopped.discard(pid)
        return wake(pid)

    def wake_all(self) -> None:
        """Have all go on that were stopped here."""
        for pid in list(self._stopped):
            self.wake(pid)

    def kill(self, pid: int) -> tuple[float, Future[float]]:
        """End a process by SIGKILL. Returns when it was sent, and when the process has ended, by CLOCK_BOOTTIME."""
        ended = ending(pid)
        self._stopped.discard(pid)
        return kill(pid), ended


def owners(status: ClusterStatus) -> dict[ShardId, str]:
    """The runner that the shard map gives each shard to."""
    return assign(shards_of("default", _SHARDS), {runner.id: 1.0 for runner in status.runners})


def settled(status: ClusterStatus) -> bool:
    """Whether every runner is healthy and has the shards that the shard map gives it."""
    wished = Counter(owners(status).values())
    return all(runner.healthy and runner.shards == wished[runner.id] for runner in status.runners)


@contextlib.contextmanager
def several_nodes(
    number: int = 3, *, quick: bool = True, driver_on: int = 0, **options: Any
) -> Iterator[SeveralNodes]:
    """Start a Ray of so many nodes, the head first; this process is a driver on one of them.

    :param quick: have Ray find dead nodes in about 2 s (`QUICK_REPORT`), else after its usual half minute.
    :param options: for each node, such as `num_cpus`.
    """
    before = set(descendants())
    adopt_orphans()
    environment = dict(os.environ)
    # Its sockets lie in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        os.environ.pop("RAY_ADDRESS", None)
        os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        head = {"num_cpus": 2, "object_store_memory": _ROOM_BYTES, "include_dashboard": False} | options
        if quick:
            head["_system_config"] = QUICK_REPORT
        rays = None
        nodes = None
        try:
            rays = RayCluster(initialize_head=True, head_node_args=head)
            nodes = SeveralNodes(rays)
            for _ in range(number - 1):
                nodes.add_node(**options)
            with mock.patch.object(services, "find_node_ids", return_value={nodes.node_ids[driver_on]}):
                ray.init(address=rays.address, log_to_driver=False)
            yield nodes
        finally:
            if nodes is not None:
                nodes.wake_all()
            ray.shutdown()
            if rays is not None:
                for node in rays.list_all_nodes():  # type: ignore[no-untyped-call]  # not annotated
                    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            end_all(process for process in descendants() if process not in before)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ |= environment
