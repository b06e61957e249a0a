"""A node is lost, or its raylet stands still: its shards are served elsewhere, and no entity ever has two owners."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import ray

from cluster_app import ClusterConfig
from cluster_app.ray_calls import boottime
from cluster_app.singletons import SINGLETON_ID
from tests.nodes.lives import lives_on
from tests.nodes.load import Load, violations
from tests.nodes.processes import ending, stay_until
from tests.nodes.recorded import Account, Clock, Recorded
from tests.nodes.several_nodes import SeveralNodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

LEASE_S = 1.0


def alive(node_id: str) -> bool:
    """Whether Ray takes that node for alive."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # not annotated
    return any(node["NodeID"] == node_id and node["Alive"] for node in nodes)


def reported_lost_at(node_id: str) -> float:
    """When Ray has reported that node as lost, by CLOCK_BOOTTIME, to some hundredths of a second."""
    while alive(node_id):
        stay_until(boottime() + 0.02)
    return boottime()


def test_the_shards_of_a_lost_node_are_served_elsewhere_as_soon_as_that_is_safe(
    nodes: SeveralNodes, namespace: str, record_property: Callable[[str, object], None]
) -> None:
    """Its raylet is killed: within the lease, or Ray's report if that is later, and half a second.

    So is the singleton that lives there, which nobody asks for anything meanwhile.
    """
    with nodes.cluster(ClusterConfig(lease_s=LEASE_S), namespace) as cluster:
        clock = cluster.singleton(Clock)
        status = nodes.settled(cluster)
        if nodes.home_of(status, "Clock", SINGLETON_ID) == nodes.head:  # this process's own: it has to stay
            cluster.drain(nodes.head)
            status = nodes.settled(cluster, runners=2)
        node = nodes.home_of(status, "Clock", SINGLETON_ID)
        victim = nodes.runner_on(status, node)
        others = {runner.id for runner in status.runners} - {victim.id}
        lives_on(namespace, "Clock", {victim.id})
        ids = nodes.ids_on(status, node, "Account", 10)
        accounts: list[Recorded] = [cluster.entity(Account, account) for account in ids]
        with Load(namespace, accounts, "look") as load, Load(namespace, accounts, "work", 0.1) as work:
            load.answered(100)
            runner = ending(victim.pid)
            killed_at = nodes.kill_raylet(node)
            reported_after_s = reported_lost_at(node) - killed_at
            singleton_after_s = lives_on(namespace, "Clock", others)["at"] - killed_at
            load.answered(200)
            work.answered(100)
        with Load(namespace, [clock], "look") as asked:
            asked.answered(20)
        again = [work.first_at(one, killed_at) - killed_at for one in ids]
        load.note("ended", pid=victim.pid, who="runner", at=runner.result(timeout=10))
        told = {
            "report": reported_after_s,
            "runner ended": runner.result() - killed_at,
            "served again": max(again),
            "singleton lives again": singleton_after_s,
        }
        record_property("seconds after the kill", told)
        print({name: round(seconds, 2) for name, seconds in told.items()})
        nodes.remove_node(node)
        nodes.add_node()
        assert violations(namespace, cluster) == []
        assert max(*again, singleton_after_s) < max(LEASE_S, reported_after_s) + 0.5


def test_a_raylet_that_stands_still_until_ray_gives_it_up_costs_its_runner_the_shards(
    nodes: SeveralNodes, namespace: str, record_property: Callable[[str, object], None]
) -> None:
    """Nobody can call that runner any more, though it lives: it gets no lease, and its shards are served elsewhere."""
    with nodes.cluster(ClusterConfig(lease_s=LEASE_S), namespace) as cluster:
        status = nodes.settled(cluster)
        node = nodes.node_ids[-1]
        ids = nodes.ids_on(status, node, "Account", 10)
        accounts = [cluster.entity(Account, account) for account in ids]
        with Load(namespace, accounts) as load, Load(namespace, accounts, "work", 0.1) as work:
            load.answered(100)
            runner = ending(nodes.runner_on(status, node).pid)
            raylet = nodes.raylet_pid(node)
            stopped_at = nodes.stop(raylet)
            reported_at = reported_lost_at(node)
            stay_until(stopped_at + 4 * LEASE_S)
            load.answered(100)
            work.answered(50)
            nodes.wake(raylet)
            load.answered(100)
        again = [load.first_at(one, reported_at) - reported_at for one in ids]
        if runner.done():
            load.note("ended", pid=nodes.runner_on(status, node).pid, who="runner", at=runner.result())
        told = {"report": reported_at - stopped_at, "served elsewhere after it": max(again)}
        record_property("seconds", told)
        print({name: round(seconds, 2) for name, seconds in told.items()})
        nodes.remove_node(node, graceful=False)
        nodes.add_node()
        assert violations(namespace, cluster) == []
        assert (
            max(again) < LEASE_S + 2.0
        )  # a look at the nodes each second, and the lease that was just given


def test_a_raylet_that_stands_still_for_less_long_costs_nothing(nodes: SeveralNodes, namespace: str) -> None:
    """Runner and coordinator talk without it: no message fails, and the same activations go on."""
    with nodes.cluster(ClusterConfig(lease_s=0.25, guard_s=0.02, drift_s=0.02), namespace) as cluster:
        status = nodes.settled(cluster)
        node = nodes.node_ids[1]
        accounts = [cluster.entity(Account, account) for account in nodes.ids_on(status, node, "Account", 10)]
        with Load(namespace, accounts) as load:
            load.answered(100)
            raylet = nodes.raylet_pid(node)
            stopped_at = nodes.stop(raylet)
            stay_until(stopped_at + 1.0)
            nodes.wake(raylet)
            load.answered(100)
        assert load.errors() == []
        assert alive(node)
        assert violations(namespace, cluster) == []
        activations = cluster.metrics().value("cluster_entity_activations_total", entity_type="Account")
        assert activations == 10
