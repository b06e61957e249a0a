"""Two coordinators of one cluster, both alive; run by `test_coordinator_lost`, prints what it saw as JSON.

Ray starts a second one when it has given up the node of the first, whose raylet only stands still. Coordinators live on
the head node, so a second node has to pass for the head: in a real cluster that is a head that was started anew.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import psutil
from ray._private import resource_and_label_spec

from cluster_app import ClusterConfig
from cluster_app.ray_kv import RayKeyValue
from tests.chaos.history import History
from tests.nodes.load import Load, violations
from tests.nodes.recorded import Account, Subject, folder_of
from tests.nodes.several_nodes import SeveralNodes, several_nodes
from tests.other_process import tell

NAMESPACE = "cluster_app"
LEASE_S = 1.0


def add_stand_in(nodes: SeveralNodes) -> str:
    """A node on which Ray may start what belongs on the head."""
    with mock.patch.object(resource_and_label_spec, "HEAD_NODE_RESOURCE_NAME", "another name"):
        return nodes.add_node(resources={"node:__internal_head__": 1.0})


def main() -> dict[str, Any]:
    """Stop the coordinator and its raylet until another one leads, wake it, and have a node join."""
    saw: dict[str, Any] = {}
    with several_nodes(2, driver_on=1) as nodes, nodes.cluster(ClusterConfig(lease_s=LEASE_S)) as cluster:
        head, here = nodes.node_ids
        nodes.settled(cluster)  # so that the first coordinator is on the head
        stand_in = add_stand_in(nodes)
        status = nodes.settled(cluster)
        first = status.coordinator
        accounts = [
            cluster.entity(Account, account)
            for node in (here, stand_in)
            for account in nodes.ids_on(status, node, "Account", 10)
        ]
        with Load(NAMESPACE, accounts, under_way=2000) as load:
            load.answered(100)
            nodes.stop(first.pid)
            nodes.stop(nodes.raylet_pid(head))
            second = nodes.coordinator_pid(other_than=first.pid)
            load.answered(100)
            nodes.wake(first.pid)
            load.answered(200)
            saw["both live"] = [psutil.pid_exists(pid) for pid in (first.pid, second)] == [True, True]
            newcomer = nodes.add_node()
            after = nodes.settled(cluster, runners=3)
            named = nodes.ids_on(after, newcomer, "Account", 10)
            subjects = [cluster.entity(Subject, f"subject-{number}") for number in range(60)]
            replies = [subject.term.remote() for subject in subjects]
            saw["obeyed"] = sorted({reply.result(timeout_s=30) for reply in replies})
            with Load(NAMESPACE, [cluster.entity(Account, account) for account in named]) as at_newcomer:
                at_newcomer.answered(50)
        saw["terms"] = [first.term, after.coordinator.term]
        saw["claimed"] = [int(key.rpartition("/")[2]) for key in RayKeyValue().keys(f"{NAMESPACE}/term/")]
        runner = nodes.runner_on(after, newcomer)
        saw["newcomer's shards"] = runner.shards
        saw["errors"] = [repr(error) for error in load.errors() + at_newcomer.errors()]
        saw["violations"] = [str(violation) for violation in violations(NAMESPACE, cluster)]
        history = History.read(folder_of(NAMESPACE))
        activated = [history.events[moment] for moment in history.of("activated")]
        saw["newcomer's terms"] = sorted({a["epoch"][0] for a in activated if a["runner"] == runner.id})
    return saw


if __name__ == "__main__":
    tell(main())
