"""What a node is called in everything that it tells."""

from __future__ import annotations

import pytest

from observe.resource import node_resource


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but what the test sets."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)


def test_a_node_is_known_by_its_id_host_and_session() -> None:
    """With nothing configured, everything that tells nodes apart is there."""
    attributes = node_resource("node-1", "session-7", host="box").attributes
    expected = {
        "service.name": "cluster-app",
        "service.instance.id": "node-1",
        "host.name": "box",
        "ray.node.id": "node-1",
        "ray.cluster.session": "session-7",
    }
    assert {name: attributes.get(name) for name in expected} == expected


def test_the_standard_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES, which wins over ours."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=flights")
    assert node_resource("n", "s").attributes["service.name"] == "flights"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "departures")
    assert node_resource("n", "s").attributes["service.name"] == "departures"


def test_other_attributes_are_kept_and_those_that_tell_nodes_apart_are_not_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One setting for all nodes must not make two nodes one."""
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.instance.id=all,ray.node.id=x"
    )
    attributes = node_resource("node-1", "s").attributes
    assert attributes["deployment.environment"] == "test"
    assert (attributes["service.instance.id"], attributes["ray.node.id"]) == ("node-1", "node-1")


def test_an_empty_service_name_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is not set."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "")
    assert node_resource("n", "s").attributes["service.name"] == "cluster-app"
