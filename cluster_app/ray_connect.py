"""Connecting to a cluster on Ray, and starting it if it is not there."""

from __future__ import annotations

import atexit
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from cluster_app.alarm import Alarm
from cluster_app.client import Client
from cluster_app.cluster import Cluster
from cluster_app.config import ClusterConfig
from cluster_app.envelope import Codec
from cluster_app.ray_backend import RayBackend
from cluster_app.ray_calls import COORDINATOR, boottime, find_actor, here
from cluster_app.ray_client import is_client
from cluster_app.ray_coordinator import CoordinatorActor
from cluster_app.ray_inside import connection_inside
from cluster_app.ray_reporter import Reporter
from cluster_app.ray_transport import RayDirectory, RayTransport
from cluster_app.silent_service import SilentService
from cluster_app.version import VersionMismatch, __version__
from observe.recorder import Recorder

__all__ = ["connect", "join"]

_LAST_EXPORT_S = 10.0  # longer than the coordinator takes for it
# Fields that are a sender's own: the rest is the cluster's, and the first connection has decided it.
_OWN_FIELDS = ("message_timeout_s", "max_in_flight", "batch_messages", "batch_bytes")


def connect(
    address: str | None = None, *, namespace: str = "cluster_app", config: ClusterConfig | None = None
) -> Cluster:
    """Connect to the cluster of this namespace, starting its service if there is none.

    An initialised Ray is used as it is; else ``ray.init(address)`` decides by its own rules, and what it starts ends
    with the connection. Coordinator, runners and agents are detached: they outlive this process.

    :param namespace: the Ray namespace of the service; each has a cluster of its own.
    :param config: the cluster's figures, if this connection starts it; a sender's own fields count in any case.
    :raises VersionMismatch: the running service is of another version.
    :raises ConnectionError: the service could not be started or does not answer.
    """
    inside = connection_inside(namespace)
    if inside is not None:
        return inside  # an entity connects: through its own process
    config = config or ClusterConfig()
    with _ray(address, namespace) as own_ray:
        return _connect(namespace, config, own_ray)


def join(address: str | None = None, *, namespace: str = "cluster_app") -> Cluster | None:
    """Connect to a service that runs; None where there is none. Starts neither a Ray nor a service.

    :raises VersionMismatch: the running service is of another version.
    :raises ConnectionError: there is no Ray, or the service does not answer.
    """
    with _ray(address or "auto", namespace) as own_ray:
        if find_actor(COORDINATOR, namespace) is not None:
            return _connect(namespace, ClusterConfig(), own_ray)
        if own_ray:
            ray.shutdown()
        return None


@contextmanager
def _ray(address: str | None, namespace: str) -> Iterator[bool]:
    """Whether this block's Ray is its own: one that it has started or joined, and leaves again if the block fails."""
    own_ray = not ray.is_initialized()
    if own_ray:
        ray.init(address=address, namespace=namespace, log_to_driver=False)
    try:
        yield own_ray
    except BaseException:
        if own_ray:
            ray.shutdown()
        raise


def _connect(namespace: str, config: ClusterConfig, own_ray: bool) -> Cluster:
    coordinators: Any = CoordinatorActor
    coordinator = coordinators.options(
        name=COORDINATOR,
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=2000,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},  # the GCS's fate is its own
        enable_task_events=False,
    ).remote(namespace, config.model_dump_json())
    hello = _hello(coordinator)
    if hello["version"] != __version__:
        raise VersionMismatch(running=hello["version"], own=__version__, namespace=namespace)
    # Where this node has been given up it needs an agent again, or nobody would hear what is counted here.
    with suppress(RayError, TimeoutError):  # the reporter asks again
        ray.get(coordinator.wanted.remote(here()), timeout=30)
    cluster_config = ClusterConfig.model_validate_json(hello["config"])
    own = {name: getattr(config, name) for name in _OWN_FIELDS if name in config.model_fields_set}
    config = cluster_config.model_copy(update=own)

    recorder = Recorder(enabled=config.metrics)
    directory = RayDirectory(namespace)
    incarnation = f"sender-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    transport = RayTransport(namespace)
    rings: list[Any] = []
    alarm = Alarm(boottime, lambda: rings[0](), "cluster-app-alarm")
    client = Client(
        incarnation,
        config,
        transport,
        directory,
        recorder,
        Codec(attach=(ray.ObjectRef,)),
        boottime,
        alarm.at,
    )
    rings.append(client.tick)
    client.term = hello["term"]
    reporter = Reporter(namespace, incarnation, recorder, client.flush, _pid_on_node(coordinator))
    reporter.announce()
    reporter.begin()

    def end() -> None:
        alarm.end()
        directory.close()
        transport.close()
        recorder.close()
        atexit.unregister(at_exit)
        if own_ray:
            _export_last(namespace)
            ray.shutdown()

    cluster = Cluster(client, RayBackend(namespace, _Closing(client, reporter), end), config)  # type: ignore[arg-type]
    at_exit = partial(_close_at_exit, cluster)
    # After Ray's own, so before it: a script that forgets to close still reports its last second.
    atexit.register(at_exit)
    return cluster


class _Closing:
    """Ends the client before the reporter's last report, so that what ends with it is counted."""

    def __init__(self, client: Client, reporter: Reporter) -> None:
        self._client = client
        self._reporter = reporter

    def end(self) -> None:
        self._client.close()
        self._reporter.end()


def _export_last(namespace: str) -> None:
    """Ray ends with this connection, and the agents with it: what they have not told yet leaves now."""
    coordinator = find_actor(COORDINATOR, namespace)
    if coordinator is not None:
        with suppress(RayError, TimeoutError):
            ray.get(coordinator.export.remote(), timeout=_LAST_EXPORT_S)


def _close_at_exit(cluster: Cluster) -> None:
    if ray.is_initialized():
        cluster.close()


def _pid_on_node(coordinator: Any) -> int:
    """The process of this connection that the node's agent can watch: through Ray Client, it is not this one."""
    if not is_client():
        return os.getpid()
    pid: int = ray.get(coordinator.driver_pid.remote(ray.get_runtime_context().get_job_id()), timeout=30)
    return pid


def _hello(coordinator: Any) -> dict[str, Any]:
    failure: Exception | None = None
    for _ in range(5):
        try:
            hello: dict[str, Any] = ray.get(coordinator.hello.remote(), timeout=30)
            return hello
        except (RayError, TimeoutError) as error:
            failure = error
    raise SilentService(f"the coordinator does not answer: {failure}") from failure
