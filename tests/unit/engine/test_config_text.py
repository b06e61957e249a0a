"""A configuration as the cluster's own processes read it: the same figures, without the class that checks them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster_app.config import ClusterConfig
from cluster_app.config_text import read_config
from tests.source import ROOT


@pytest.mark.parametrize(
    "config",
    [
        ClusterConfig(),
        ClusterConfig(
            lease_s=0.5, idle_node_s=None, metrics=False, runner_nodes={"gpu": 1}, groups={"g": {"zone": "a"}}
        ),
    ],
    ids=["defaults", "others"],
)
def test_all_its_fields_are_read_and_nothing_else(config: ClusterConfig) -> None:
    """With the very types, so that nobody sees a difference."""
    read = vars(read_config(config.model_dump_json()))
    fields = {name: getattr(config, name) for name in ClusterConfig.model_fields}
    assert read == fields
    assert {name: type(value) for name, value in read.items()} == {n: type(v) for n, v in fields.items()}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"lease_s": 0.1}, r"guard_s \(0.1\) must be less than lease_s \(0.1\)"),
        ({"lease_s": float("inf")}, "lease_s"),
        ({"message_timeout_s": float("inf")}, "message_timeout_s"),
        ({"crowded_busy": float("nan")}, "crowded_busy"),
    ],
)
def test_what_no_cluster_can_be_run_with_is_refused_where_it_is_written(
    fields: dict[str, float], says: str
) -> None:
    """Not by the coordinator: it would be there for good, with a figure that it cannot begin with or read."""
    with pytest.raises(ValueError, match=says):
        ClusterConfig(**fields)  # type: ignore[arg-type]  # fields of floats


@pytest.mark.parametrize("process", ["ray_coordinator", "ray_runner", "ray_agent", "ray_entity"])
def test_a_process_of_the_clusters_does_not_load_what_checks_it(process: str) -> None:
    """When the coordinator is lost, everybody waits for the start of the next one."""
    loaded = "'pydantic' in sys.modules, 'cluster_app.config' in sys.modules"
    program = f"import sys, cluster_app.{process}; print({loaded})"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["False", "False"]
