"""A driver through Ray Client, run by `test_ray_client` in a process of its own; prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import ray

import cluster_app
from cluster_app import Cluster, Entity, entity, message
from entities.catalog import Counter

NAMESPACE = "far"


@entity(max_idle_time=None)
class Guest(Entity):
    """Of this very script, so its code travels."""

    @message
    def size(self, data: bytes) -> int:
        return len(data)

    @message
    def fail(self) -> None:
        raise LookupError("nothing there")


@ray.remote(num_cpus=0)
def one() -> int:
    """A task, to be called."""
    return 1


async def awaited(cluster: Cluster) -> list[int]:
    """Replies that are awaited, sent by turns so that each waits for the one before."""
    counter = cluster.entity(Counter, "awaited")
    return [await counter.increment.remote() for _ in range(3)]


def in_callback(cluster: Cluster) -> int:
    """A callback of a reply makes a Ray call of its own, and drops another: neither may stop the connection."""
    seen: list[Any] = []

    def called(reply: Any) -> None:
        one.remote()  # dropped before it has an id
        seen.append(one.remote())

    reply = cluster.entity(Counter, "callback").increment.remote()
    reply.add_done_callback(called)
    reply.result(timeout_s=20)
    deadline = time.monotonic() + 20
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(ray.get(seen[0], timeout=20))


def tour(cluster: Cluster) -> dict[str, Any]:
    """What a driver does, each in its way through Ray Client."""
    saw: dict[str, Any] = {}
    counter = cluster.entity(Counter, "by reference")
    saw["by reference"] = counter.increment.remote(ray.put(41)).result(timeout_s=20)  # type: ignore[arg-type]
    guest = cluster.entity(Guest, "guest")
    saw["six megabytes"] = guest.size.remote(bytes(6_000_000)).result(timeout_s=20)
    try:
        guest.fail.remote().result(timeout_s=20)
    except cluster_app.HandlerError as error:
        saw["cause"] = repr(error.__cause__)
    saw["awaited"] = asyncio.run(awaited(cluster))
    saw["callback"] = in_callback(cluster)
    saw["broadcast"] = cluster.broadcast(Counter, "increment").result(timeout_s=20).delivered
    saw["live"] = sorted(cluster.live(Counter))
    saw["deactivated"] = cluster.deactivate(counter)
    metrics = cluster.metrics()
    saw["sent"] = metrics.value("cluster_messages_sent_total")
    saw["latencies"] = metrics.value("cluster_message_latency_seconds")
    saw["errors"] = metrics.value("cluster_errors_total", type="HandlerError")
    return saw


def main() -> None:
    """`tour` closes in order; `forget` ends without a word; `hang` waits to be killed."""
    what, address = sys.argv[1:]
    cluster = cluster_app.connect(address, namespace=NAMESPACE)
    if what == "tour":
        with cluster:
            print(json.dumps(tour(cluster)), flush=True)
        return
    cluster.entity(Counter, what).increment.remote().result(timeout_s=20)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    if what == "hang":
        cluster.metrics()  # so that its count has been told
        print("counted", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
