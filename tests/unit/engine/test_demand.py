"""What a process of its own may ask for, and what is said to a demand without meaning."""

from __future__ import annotations

from typing import Any

import pytest

from entities import Entity, entity, message
from entities.declaration import define


class Model(Entity):
    @message
    def ask(self) -> None: ...


def test_a_demand_is_kept_as_it_was_given() -> None:
    """With the amounts by the names that nodes use; what was not asked for is not there."""
    declared = entity(hosting="actor", num_cpus=2, num_gpus=0.5, resources={"memory": 1e9, "tpu": 1})(Model)
    demand = define(declared).options.demand
    assert demand.amounts() == {"CPU": 2.0, "GPU": 0.5, "memory": 1e9, "tpu": 1.0}
    assert str(demand) == "num_cpus=2, num_gpus=0.5, resources={'memory': 1000000000.0, 'tpu': 1}"
    assert define(entity(hosting="actor")(Model)).options.demand.given() == {}


def test_the_same_demand_in_another_order_is_the_same_code() -> None:
    """Two drivers that list the resources differently agree."""
    digests = [
        define(entity(hosting="actor", resources=resources)(Model)).digest
        for resources in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hosting": "thread"}, "'shard' or 'actor'"),
        ({"num_gpus": 1}, r"num_gpus=1.*hosting='actor'"),
        ({"num_cpus": 1, "runtime_env": {}}, "num_cpus can only be had"),
        ({"hosting": "actor", "num_cpus": -1}, "num_cpus=-1.*0 or more"),
        ({"hosting": "actor", "num_cpus": True}, "num_cpus=True"),
        ({"hosting": "actor", "num_gpus": float("nan")}, "num_gpus=nan"),
        ({"hosting": "actor", "num_gpus": "one"}, "num_gpus='one'"),
        ({"hosting": "actor", "num_gpus": 1.5}, "whole number"),
        ({"hosting": "actor", "resources": {"GPU": 1}}, "with num_gpus"),
        ({"hosting": "actor", "resources": {"tpu": None}}, "'tpu' is not an amount"),
        ({"hosting": "actor", "resources": {"": 1}}, "no name of a resource"),
        ({"hosting": "actor", "resources": ["tpu"]}, "dict of amounts"),
        ({"hosting": "actor", "runtime_env": "conda"}, "runtime_env='conda'"),
    ],
)
def test_a_demand_without_meaning_is_refused_where_it_is_written(options: dict[str, Any], says: str) -> None:
    """By the option's name, with what to do."""
    with pytest.raises(ValueError, match=says):
        entity(**options)(Model)
