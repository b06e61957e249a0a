"""The hand on the processes of a cluster of three nodes: each can be found, stopped, woken and seen to end."""

from __future__ import annotations

import psutil
import pytest

from cluster_app import ClusterConfig
from tests.nodes.several_nodes import SeveralNodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def test_each_process_is_another_and_a_stopped_one_can_be_killed(nodes: SeveralNodes, namespace: str) -> None:
    """Raylets, runners, agents and the coordinator: one of each where it belongs; the end of one is seen."""
    with nodes.cluster(ClusterConfig(lease_s=1.0), namespace) as cluster:
        status = nodes.settled(cluster)
        runners = [nodes.runner_on(status, node) for node in nodes.node_ids]
        agents = [nodes.agent_pid(node, namespace) for node in nodes.node_ids]
        raylets = [nodes.raylet_pid(node) for node in nodes.node_ids]
        coordinator = nodes.coordinator_pid(namespace)
        assert coordinator == status.coordinator.pid
        assert len({*(runner.pid for runner in runners), *agents, *raylets, coordinator}) == 10
        # A worker's parent is its node's raylet.
        assert [psutil.Process(runner.pid).ppid() for runner in runners] == raylets
        assert psutil.Process(coordinator).ppid() == raylets[0]

        nodes.stop(agents[2])
        assert psutil.Process(agents[2]).status() == psutil.STATUS_STOPPED
        sent_at, ended = nodes.kill(agents[2])
        assert ended.result(timeout=10) >= sent_at
        assert nodes.agent_pid(nodes.node_ids[2], namespace, other_than=agents[2]) != agents[2]
