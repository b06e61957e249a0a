"""Nodes with labels: which get runners, which shards go where, and what is told when no node fits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.other_process import seen_by

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def saw() -> dict[str, Any]:
    """What a driver on a head, a labelled node and one that the configuration leaves out saw."""
    return seen_by("tests.slow.labelled_nodes", within_s=220)


def test_a_pinned_group_is_on_the_labelled_node_alone(saw: dict[str, Any]) -> None:
    """From the first message on; entities of other groups are there and on the head, by the nodes' weights."""
    assert saw["pinned"] == {"labelled": 40}
    assert saw["anywhere"] == ["head", "labelled"]


def test_a_node_that_the_configuration_leaves_out_has_no_runner(saw: dict[str, Any]) -> None:
    """A process there connects and is served, and has an agent to report to."""
    assert saw["visited"] == "labelled"
    assert saw["left out has"] == ["agent"]


def test_what_no_node_has_is_named(saw: dict[str, Any]) -> None:
    """The group, what it asks for, and which nodes have runners at all."""
    assert "shard group 'quantum' may only be on nodes with 8 qubits" in saw["nowhere"]
    assert "runners are only on nodes with pool=!batch" in saw["nowhere"]


def test_the_last_node_of_a_pinned_group_is_not_drained(saw: dict[str, Any]) -> None:
    """Its shards would have nowhere to go."""
    assert saw["drain"].startswith(
        "no other node could take the shards of 'gpu', which are pinned: add a node"
    )


def test_a_node_that_joins_takes_the_place_of_one_that_was_lost(saw: dict[str, Any]) -> None:
    """Without any, messages end by saying so; one that is under way when another joins is answered."""
    assert "shard group 'gpu' may only be on nodes with pool=gpu" in saw["lost"]
    assert saw["again"] == "another"
