"""Nodes and runners that are told to end: by SIGTERM, by Ray's own drain with a deadline, by `cluster.drain`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.other_process import seen_by
from tests.slow.ending_nodes import NOTICE_S

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def saw() -> dict[str, Any]:
    """What a driver on two nodes saw."""
    return seen_by("tests.slow.ending_nodes", within_s=230)


def test_a_runner_that_gets_sigterm_leaves_in_order(saw: dict[str, Any]) -> None:
    """All its shards move under load and no message fails; its process ends by itself, and another one follows."""
    told = saw["told"]
    assert told["ended after"] is not None
    assert told["errors"] == [] and told["sent"] >= 100
    assert told["moved"] == told["had"] > 0
    assert len(told["said"]) == 1
    assert told["replaced"]


def test_a_second_sigterm_ends_it_at_once(saw: dict[str, Any]) -> None:
    """What ran may have run, its sender is told, and the log names it."""
    told = saw["told"]
    assert told["twice, ended after"] is not None
    assert (told["twice"]["error"], told["twice"]["may_have_run"]) == ("RunnerUnavailable", True)
    (line,) = told["twice, named"]
    assert ".carry" in line


def test_a_drain_that_takes_longer_names_the_handler(saw: dict[str, Any]) -> None:
    """It goes on, and ends when the handler has; the message does not fail."""
    drained = saw["drained"]
    assert drained["running"] == [f"{drained['porter']}.carry"]
    assert drained["held"] == {drained["runner"]: 1}
    assert drained["running"][0] in drained["said"]
    assert drained["shards"] <= 1
    assert "value" in drained["fate"]


def test_a_node_that_ray_drains_is_emptied_at_once(saw: dict[str, Any]) -> None:
    """Under load no message fails; what long handlers do not hold has moved long before the deadline."""
    taken = saw["taken"]
    assert taken["accepted"]
    assert taken["emptied after"] < NOTICE_S - 3.0
    assert taken["errors"] == [] and taken["sent"] >= 100
    assert len(taken["told"]) == 1


def test_what_outlasts_the_deadline_is_cut_short_before_it(saw: dict[str, Any]) -> None:
    """The log names it. Its sender is told that it may have run; declared idempotent, it is sent again instead."""
    taken = saw["taken"]
    assert taken["runner ended after"] < NOTICE_S
    assert (taken["lost"]["error"], taken["lost"]["may_have_run"]) == ("RunnerUnavailable", True)
    assert "value" in taken["safe"] and taken["safe"]["value"] != taken["pid"]
    (line,) = taken["named"]
    assert f"{taken['porters'][0]}.carry" in line and f"{taken['porters'][1]}.carry_safely" in line


def test_nothing_is_started_there_any_more_and_ray_ends_the_node(saw: dict[str, Any]) -> None:
    """With runner and agent gone it is idle, and Ray takes it away by itself."""
    assert saw["taken"]["runners there"] == []
    assert saw["runners"] == [True]


def test_all_shards_moved_because_of_the_drain_and_all_counts_are_kept(saw: dict[str, Any]) -> None:
    """Those of the two long handlers were lost on the way; the node's counts went to the head's agent."""
    taken = saw["taken"]
    assert taken["moved"] == {"drain": taken["had"] - 2, "lost": 0, "leave": 0}
    assert taken["moved badly"] == 2
    # The load, a hundred looked for, one that was lost, and one that ran twice.
    assert saw["received"] == taken["sent"] + 100 + 1 + 2
