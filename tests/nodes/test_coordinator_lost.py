"""The coordinator is killed, or stands still until Ray has started another one: messages go on, and so do moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster_app import ClusterConfig
from tests.nodes.load import Load, violations
from tests.nodes.recorded import Account
from tests.nodes.several_nodes import SeveralNodes
from tests.other_process import seen_by

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]

GOES_ON_WITHIN_S = 3.0


def test_a_killed_coordinator_fails_no_message_and_its_successor_moves_shards_within_three_seconds(
    nodes: SeveralNodes, namespace: str, record_property: Callable[[str, object], None]
) -> None:
    """A runner dies with it, so that there is something to move: its entities answer again; others never stop."""
    with nodes.cluster(ClusterConfig(), namespace) as cluster:
        status = nodes.settled(cluster)
        victim, *others = nodes.node_ids[::-1]
        steady = [
            cluster.entity(Account, account)
            for node in others
            for account in nodes.ids_on(status, node, "Account", 10)
        ]
        ids = nodes.ids_on(status, victim, "Account", 10)
        moving = [cluster.entity(Account, account) for account in ids]
        with Load(namespace, steady) as load, Load(namespace, moving, "look") as moved:
            load.answered(100)
            moved.answered(50)
            killed_at, _ = nodes.kill(status.coordinator.pid)
            runner = nodes.runner_on(status, victim).pid
            _, ended = nodes.kill(runner)
            moved.answered(100)
            load.answered(100)
            after = nodes.settled(cluster)
        load.note("ended", pid=runner, who="runner", at=ended.result())
        again = [moved.first_at(one, ended.result()) - killed_at for one in ids]
        record_property("seconds until shards have moved", max(again))
        print(f"seconds until the shards had moved: {min(again):.2f} to {max(again):.2f}")
        assert after.coordinator.term == status.coordinator.term + 1
        assert load.errors() == []
        assert violations(namespace, cluster) == []
        assert max(again) < GOES_ON_WITHIN_S


@pytest.fixture(scope="module")
def saw() -> dict[str, Any]:
    """What `two_coordinators` has seen, in a process of its own: the Ray that it breaks is no other test's."""
    found = seen_by("tests.nodes.two_coordinators", within_s=120)
    print(found)
    return found


def test_a_coordinator_that_wakes_beside_its_successor_leads_nobody(saw: dict[str, Any]) -> None:
    """Both processes live: every runner obeys the later term, and the earlier one has stopped to lead by itself."""
    assert saw["both live"]
    assert saw["terms"] == [1, 2]
    assert saw["obeyed"] == [2]
    assert saw["claimed"] == [2]


def test_meanwhile_no_message_fails_and_shards_move_under_the_new_term_only(saw: dict[str, Any]) -> None:
    """What was sent while nobody led is answered; a node that joins gets its share, under epochs of the new term."""
    assert saw["errors"] == []
    assert saw["violations"] == []
    assert saw["newcomer's shards"] > 0
    assert saw["newcomer's terms"] == [2]
