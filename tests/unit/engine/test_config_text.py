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


@pytest.mark.parametrize("process", ["ray_coordinator", "ray_runner", "ray_agent", "ray_entity"])
def test_a_process_of_the_clusters_does_not_load_what_checks_it(process: str) -> None:
    """When the coordinator is lost, everybody waits for the start of the next one."""
    loaded = "'pydantic' in sys.modules, 'cluster_app.config' in sys.modules"
    program = f"import sys, cluster_app.{process}; print({loaded})"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["False", "False"]
