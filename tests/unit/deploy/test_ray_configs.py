"""The cluster configurations for `ray up`: Ray takes them, every host has the token, and nothing is open by default."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.source import ROOT

DEPLOY = ROOT / "deploy"
ONPREM, AWS = DEPLOY / "ray-onprem.yaml", DEPLOY / "ray-aws.yaml"
MADE = {"dist", "otelcol", "~/.ray/auth_token"}  # by the operator, as deploy/README.md says

both = pytest.mark.parametrize("file", [ONPREM, AWS], ids=lambda file: file.stem)


def loaded(file: Path) -> dict[str, Any]:
    """The file as it is."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def prepared(file: Path) -> dict[str, Any]:
    """The configuration as `ray up` has it after filling in its defaults and checking it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(copy.deepcopy(loaded(file)))
    validate_config(config)
    return config


def starts(config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The commands that start Ray, for the head and for workers."""
    for who in ("head", "worker"):
        yield who, config[f"{who}_start_ray_commands"]


def options(command: str) -> dict[str, str]:
    """The options of the `ray start` in a command."""
    return dict(re.findall(r"--([a-z-]+)(?:=(\S+))?", command.partition("ray start")[2]))


@both
def test_ray_takes_the_configuration(file: Path) -> None:
    """`ray up` prepares and validates it; what it starts is what the file says, not Ray's defaults."""
    config = prepared(file)
    for who, commands in starts(config):
        assert commands == loaded(file)[f"{who}_start_ray_commands"]


@both
def test_a_configuration_with_a_mistake_is_not_taken(file: Path) -> None:
    """Ray's check bites: an unknown field is refused."""
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    config = prepared(file) | {"setup_command": []}
    with pytest.raises(jsonschema.ValidationError, match="setup_command"):
        validate_config(config)


def test_the_on_prem_cluster_has_the_machines_that_are_named() -> None:
    """The number of workers is that of the addresses."""
    config = prepared(ONPREM)
    assert config["max_workers"] == len(config["provider"]["worker_ips"]) == 2


def test_on_aws_groups_and_roles_are_the_operators_own() -> None:
    """Without them Ray would open port 22 to everybody, and let the head do anything in EC2."""
    config = prepared(AWS)
    types = config["available_node_types"]
    assert all(each["node_config"]["SecurityGroupIds"] for each in types.values())
    assert all(
        each["node_config"]["MetadataOptions"] == {"HttpTokens": "required"} for each in types.values()
    )
    assert "IamInstanceProfile" in types["head"]["node_config"]
    assert "IamInstanceProfile" not in types["worker"]["node_config"]
    assert (types["worker"]["min_workers"], types["worker"]["max_workers"]) == (1, config["max_workers"])
    assert {name: each["labels"]["cluster-app/role"] for name, each in types.items()} == {n: n for n in types}


@both
def test_every_host_has_the_token_and_asks_for_it(file: Path) -> None:
    """The operator's own token file is copied to every host, for its owner's eyes; no token is in the file itself."""
    config = prepared(file)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for who in ("head", "worker"):
        setup = config[f"{who}_setup_commands"]
        assert any("chmod 600 ~/.ray/auth_token" in command for command in setup)
        (environment,) = [command for command in setup if command.endswith("> ~/cluster-app/environment")]
        assert "RAY_AUTH_MODE=token" in environment
    for _, commands in starts(config):
        assert all(command.startswith(". ~/cluster-app/environment && ") for command in commands)
    assert "RAY_AUTH_TOKEN" not in file.read_text()
    assert re.findall(r"\b[0-9a-f]{24,}\b", file.read_text()) == []


@both
def test_every_host_has_the_package_the_collector_and_where_to_send(file: Path) -> None:
    """Head and workers install the same wheel, start a collector, and tell Ray's processes where it listens."""
    config = prepared(file)
    for who, commands in starts(config):
        assert any("cluster_app-*.whl" in command for command in config[f"{who}_setup_commands"])
        stop, collector, start = commands
        assert stop.endswith(" ray stop") and collector.endswith("~/cluster-app/start-collector")
        exported = dict(re.findall(r"(OTEL_\w+)=(\S+?);?(?=\s)", start.partition("ray start")[0]))
        assert exported == {
            "OTEL_SERVICE_NAME": "cluster-app",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }


@both
def test_ray_is_started_with_options_that_it_has(file: Path) -> None:
    """Options are `ray start`'s, ports those of every host and none twice; the dashboard is on loopback."""
    from ray.scripts import scripts

    command: click.Command = scripts.start
    known = {name.lstrip("-") for parameter in command.params for name in parameter.opts}
    told = {who: options(commands[-1]) for who, commands in starts(prepared(file))}
    assert {name for each in told.values() for name in each} - known == set()
    head, worker = told["head"], told["worker"]
    assert head["dashboard-host"] == "127.0.0.1" and "head" in head
    assert worker.pop("address") == f"$RAY_HEAD_IP:{head['port']}"
    assert worker.items() <= head.items()
    ports = [int(value) for name, value in head.items() if name.endswith("port") and "worker" not in name]
    low, high = int(head["min-worker-port"]), int(head["max-worker-port"])
    assert len(set(ports)) == len(ports) == 9
    assert not any(low <= port <= high or port in (4317, 4318, 9464) for port in ports)


@both
def test_what_is_copied_to_the_hosts_is_there(file: Path) -> None:
    """Each file is one of the checkout, or one that README says how to make."""
    mounts = loaded(file)["file_mounts"].values()
    assert set(mounts) >= MADE
    assert [name for name in set(mounts) - MADE if not (ROOT / name).is_file()] == []
    readme = (DEPLOY / "README.md").read_text()
    assert all(name.rpartition("/")[2] in readme for name in MADE)


@both
def test_every_command_is_a_shell_command(file: Path) -> None:
    """bash can read each of them."""
    config = prepared(file)
    for name in [name for name in config if name.endswith("_commands")]:
        for command in config[name]:
            read = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            assert read.returncode == 0, f"{name}: {read.stderr}"
