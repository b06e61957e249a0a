"""What Ray's state API, and so `ray list actors` and the dashboard's Actors page, calls the parts of a cluster."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import ray
from ray.util.state import list_actors

from cluster_app import Cluster, ClusterConfig
from tests.slow.happenings import CONFIG, ApartClerk, both_at_work

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

ODD = "two\nlines\x00 and é"


class Listed(NamedTuple):
    """One line of the listing."""

    kind: str
    name: str
    shown: str


@pytest.fixture(scope="module")
def config() -> ClusterConfig:
    """Two runners."""
    return CONFIG


def listed(namespace: str) -> list[Listed]:
    """The living actors of a namespace: class, name and what their `__repr__` gives."""
    found: list[Any] = list_actors(
        # By its address: on this machine there may be another Ray.
        ray.get_runtime_context().gcs_address,
        filters=[("ray_namespace", "=", namespace), ("state", "=", "ALIVE")],
        detail=True,
    )
    return sorted(Listed(actor.class_name, actor.name or "", actor.repr_name or "") for actor in found)


def test_every_actor_has_a_readable_name(file_cluster: Cluster, namespace: str) -> None:
    """Runners, agent, coordinator and entities: whoever reads the list knows which is which, and on what node."""
    status = both_at_work(file_cluster)
    node_id = status.runners[0].node_id
    for entity_id in ("lax", ODD):
        file_cluster.entity(ApartClerk, entity_id).stay.remote().result(timeout_s=30)

    actors = listed(namespace)
    assert [actor for actor in actors if actor.kind == "RunnerActor"] == sorted(
        Listed("RunnerActor", runner.id, runner.id) for runner in status.runners
    )
    assert all(re.fullmatch(rf"runner-{node_id[:8]}-[0-9a-f]{{8}}", runner.id) for runner in status.runners)
    assert Listed("AgentActor", f"agent-{node_id}", f"agent({node_id[:8]})") in actors
    assert Listed("CoordinatorActor", "coordinator", f"coordinator({namespace})") in actors
    assert Listed("ApartClerk", "entity-ApartClerk/lax", "ApartClerk/lax") in actors
    (odd,) = [a for a in actors if a.kind == "ApartClerk" and a.shown != "ApartClerk/lax"]
    assert re.fullmatch(r"ApartClerk/two\?lines\? and é~[0-9a-f]{8}", odd.shown)
    assert odd.name == f"entity-{odd.shown}"
    assert len(actors) == 2 + 1 + 1 + 2
