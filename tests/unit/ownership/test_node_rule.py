"""What is asked of a node, and what a runner is by its node."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from cluster_app.config import ClusterConfig
from cluster_app.node_rule import NodeRule
from cluster_app.standing import Standing, may_have_runners, standing_of
from cluster_app.unserved import unserved


@pytest.mark.parametrize(
    ("asked", "label", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "b", True),
        ("!a", "a", False),
        ("!a", None, True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "b", True),
        ("in(a, b)", "c", False),
        ("in(a, b)", None, False),
        ("!in(a, b)", "c", True),
        ("!in(a, b)", "a", False),
        ("!in(a, b)", None, True),
        ("in", "in", True),
    ],
)
def test_text_asks_for_a_label_as_ray_does(asked: str, label: str | None, fits: bool) -> None:
    """A value, one of several, or none of them; a node without the label has none of them."""
    labels = {"other": "a"} if label is None else {"pool": label}
    assert NodeRule({"pool": asked}).fits(labels, {}) is fits


def test_a_number_asks_for_so_much_of_a_resource() -> None:
    """Of the node's whole amount, whatever of it is free."""
    rule = NodeRule({"GPU": 2})
    assert [rule.fits({}, resources) for resources in ({"GPU": 2.0}, {"GPU": 1.0}, {}, {"TPU": 8.0})] == [
        True,
        False,
        False,
        False,
    ]


def test_all_of_it_must_be_there() -> None:
    """Nothing asked is met by any node."""
    rule = NodeRule({"pool": "gpu", "GPU": 1})
    assert rule.fits({"pool": "gpu"}, {"GPU": 1.0})
    assert not rule.fits({"pool": "gpu"}, {})
    assert not rule.fits({}, {"GPU": 1.0})
    assert NodeRule({}).fits({}, {})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"": "a"}, "without a name"),
        ({"pool": ""}, "'pool' can be asked to be a value"),
        ({"pool": "in(a"}, "'in\\(a'"),
        ({"pool": "!!a"}, "'!!a'"),
        ({"GPU": 0}, "'GPU' a node has an amount above 0, not 0"),
        ({"GPU": -1}, "'GPU'"),
        ({"GPU": math.inf}, "'GPU'"),
        ({"GPU": math.nan}, "'GPU'"),
        ({"GPU": True}, "'GPU'"),
    ],
)
def test_what_could_never_be_meant_is_refused_by_name(asked: dict[str, Any], why: str) -> None:
    """By the rule itself, and by each field of the configuration that holds one."""
    with pytest.raises(ValueError, match=why):
        NodeRule(asked)
    with pytest.raises(ValueError, match="runner_nodes"):
        ClusterConfig(runner_nodes=asked)
    with pytest.raises(ValueError, match="groups"):
        ClusterConfig(groups={"gpu": asked})


@pytest.mark.parametrize("groups", [{"gpu": {}}, {"": {"GPU": 1}}, {"a:b": {"GPU": 1}}])
def test_a_group_has_a_name_and_asks_for_something(groups: dict[str, dict[str, str | float]]) -> None:
    """A rule without a demand would pin to nothing, and a name with a colon can't be a group's."""
    with pytest.raises(ValueError, match="group"):
        ClusterConfig(groups=groups)


def test_the_rules_can_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON; and they survive the way to the coordinator and to the runners."""
    monkeypatch.setenv("CLUSTER_APP_RUNNER_NODES", '{"ray.io/node-group": "workers"}')
    monkeypatch.setenv("CLUSTER_APP_GROUPS", '{"gpu": {"GPU": 1, "pool": "8"}}')
    config = ClusterConfig()
    assert config.runner_nodes == {"ray.io/node-group": "workers"}
    assert config.groups == {"gpu": {"GPU": 1, "pool": "8"}}
    assert ClusterConfig.model_validate_json(config.model_dump_json()) == config


def test_a_runner_stands_for_what_its_node_has() -> None:
    """The groups whose rules the node meets, and the weight of its label."""
    config = ClusterConfig(
        groups={"gpu": {"GPU": 1}, "here": {"pool": "a"}, "default": {"pool": "!gpu"}},
        runner_nodes={"pool": "in(a, gpu)"},
    )
    assert standing_of(config, {"pool": "a"}, {}) == Standing(1.0, frozenset({"here", "default"}))
    assert standing_of(config, {"pool": "gpu", "cluster_app.weight": "2.5"}, {"GPU": 4.0}) == Standing(
        2.5, frozenset({"gpu"})
    )
    assert may_have_runners(config, {"pool": "a"}, {})
    assert not may_have_runners(config, {}, {})
    assert may_have_runners(ClusterConfig(), {}, {})


@pytest.mark.parametrize("weight", ["much", "0", "-1", "inf", "nan", ""])
def test_a_weight_without_a_meaning_counts_as_one_and_is_told(
    weight: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A node's label is no reason to be without runners there; the log names label and value."""
    with caplog.at_level(logging.WARNING, logger="cluster_app"):
        assert standing_of(ClusterConfig(), {"cluster_app.weight": weight}, {}).weight == 1.0
    assert [record.getMessage().partition(" is ")[0] for record in caplog.records] == [
        f"node label cluster_app.weight={weight}"
    ]


def test_who_waited_in_vain_reads_what_was_asked() -> None:
    """The group and its rule, and where runners are at all; nothing of either where there is none."""
    config = ClusterConfig(groups={"gpu": {"GPU": 1, "pool": "in(a, b)"}}, runner_nodes={"pool": "a"})
    assert unserved(ClusterConfig(), "default") == "no runner served its shard before the deadline"
    assert unserved(config, "gpu") == (
        "no runner served its shard before the deadline; shard group 'gpu' may only be on nodes with 1 GPU, "
        "pool=in(a, b) (groups); runners are only on nodes with pool=a (runner_nodes)"
    )
    assert "gpu" not in unserved(config, "default")
