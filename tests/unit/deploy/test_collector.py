"""The collector's configurations: what the collector would refuse, and what an operator must not find open.

There is no collector here, so its documented settings and rules are written down in this file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from observe.instruments import cluster
from tests.source import ROOT

DEPLOY = ROOT / "deploy"
NODE, GATEWAY = DEPLOY / "otel-collector.yaml", DEPLOY / "otel-collector-gateway.yaml"

both = pytest.mark.parametrize("file", [NODE, GATEWAY], ids=lambda file: file.stem)

VARIABLE = re.compile(r"\$\{env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
DOCUMENTED = re.compile(
    r"^#   (?P<name>(?:COLLECTOR|GATEWAY)_\w+)\s+(?P<says>.*(?:\n#    +.*)*)", re.MULTILINE
)

# Settings by component, as the collector documents them; None where any key is the user's own.
SERVER_TLS: dict[str, Any] = {"cert_file": {}, "key_file": {}, "client_ca_file": {}, "min_version": {}}
CLIENT: dict[str, Any] = {
    "endpoint": {},
    "headers": None,
    "tls": {"ca_file": {}, "cert_file": {}, "key_file": {}, "insecure": {}, "server_name_override": {}},
    "auth": {"authenticator": {}},
    "sending_queue": {"enabled": {}, "num_consumers": {}, "queue_size": {}},
    "retry_on_failure": {"enabled": {}, "initial_interval": {}, "max_interval": {}, "max_elapsed_time": {}},
    "timeout": {},
    "compression": {},
}
SERVER: dict[str, Any] = {"endpoint": {}, "tls": SERVER_TLS, "auth": {"authenticator": {}}}
PIPELINE: dict[str, Any] = {"receivers": {}, "processors": {}, "exporters": {}}
SETTINGS: dict[str, Any] = {
    "receivers": {"otlp": {"protocols": {"grpc": SERVER, "http": SERVER}}},
    "processors": {
        "memory_limiter": {
            "check_interval": {},
            "limit_mib": {},
            "spike_limit_mib": {},
            "limit_percentage": {},
            "spike_limit_percentage": {},
        },
        "batch": {"timeout": {}, "send_batch_size": {}, "send_batch_max_size": {}},
    },
    "exporters": {
        "prometheus": {
            **SERVER,
            "const_labels": None,
            "namespace": {},
            "send_timestamps": {},
            "metric_expiration": {},
            "resource_to_telemetry_conversion": {"enabled": {}, "exclude_service_attributes": {}},
            "enable_open_metrics": {},
            "add_metric_suffixes": {},
        },
        "otlphttp": CLIENT,
        "otlp": CLIENT,
        "nop": {},
    },
    "extensions": {"bearertokenauth": {"scheme": {}, "token": {}, "filename": {}}},
    "service": {
        "extensions": {},
        "telemetry": {"metrics": {"level": {}}},
        "pipelines": {"metrics": PIPELINE, "traces": PIPELINE},
    },
}
CORE = {"otlp", "memory_limiter", "batch", "prometheus", "otlphttp", "nop"}  # of the core distribution


def loaded(file: Path, **environment: str) -> dict[str, Any]:
    """The configuration as the collector sees it in an environment: it replaces variables, then reads the values."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match["name"]) or match["default"] or ""

    found: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value, file.read_text()))
    return found


def unknown(told: Any, settings: Any, where: str) -> list[str]:
    """The paths of settings that are not documented."""
    if settings is None or not isinstance(told, dict):
        return []
    of_components = where.count(".") == 1 and not where.startswith(".service")
    found = []
    for key, below in told.items():
        name = key.partition("/")[0] if of_components else key
        if name not in settings:
            found.append(f"{where}.{key}")
        else:
            found += unknown(below, settings[name], f"{where}.{key}")
    return found


@both
def test_every_setting_is_documented_by_the_collector(file: Path) -> None:
    """A misspelt or unknown setting would keep the collector from starting."""
    assert unknown(loaded(file), SETTINGS, "") == []


def test_a_misspelt_setting_is_found() -> None:
    """The comparison with the documented settings sees a wrong key wherever it is."""
    config = loaded(NODE)
    config["exporters"]["prometheus"]["resource_to_telemetry_conversion"]["enable"] = True
    config["exporters"]["otlphttp/traces"]["end_point"] = ""
    config["processor"] = {}
    assert unknown(config, SETTINGS, "") == [
        ".exporters.prometheus.resource_to_telemetry_conversion.enable",
        ".exporters.otlphttp/traces.end_point",
        ".processor",
    ]


@both
@pytest.mark.parametrize("traces", ["", "otlphttp/traces"])
def test_pipelines_name_what_is_declared(file: Path, traces: str) -> None:
    """Each pipeline has only declared components, whoever gets the traces; all that is declared is used or offered."""
    config = loaded(file, COLLECTOR_TRACES_EXPORTER=traces)
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert names and set(names) <= set(config[kind])
    assert config["service"]["pipelines"]["traces"]["exporters"] == [traces or "nop"]
    assert set(config["service"].get("extensions", [])) == set(config.get("extensions", {}))
    used = {
        n
        for pipeline in config["service"]["pipelines"].values()
        for names in pipeline.values()
        for n in names
    }
    offered = {name for name in config["exporters"] if name in file.read_text().split("receivers:")[0]}
    assert used | offered == {*config["receivers"], *config["processors"], *config["exporters"]}


@both
def test_memory_is_limited_first_and_batches_are_made_last(file: Path) -> None:
    """What is refused must be refused before anything else is done with it."""
    config = loaded(file)
    for pipeline in config["service"]["pipelines"].values():
        assert pipeline["processors"] == ["memory_limiter", "batch"]
    limiter = config["processors"]["memory_limiter"]
    assert 0 < limiter["spike_limit_mib"] < limiter["limit_mib"] and limiter["check_interval"] == "1s"
    batch = config["processors"]["batch"]
    assert batch["send_batch_max_size"] >= batch["send_batch_size"] > 0


def listeners(config: dict[str, Any]) -> list[str]:
    """The hosts that it listens on."""
    servers = [*config["receivers"]["otlp"]["protocols"].values(), config["exporters"]["prometheus"]]
    return [server["endpoint"].rpartition(":")[0] for server in servers]


@both
def test_nothing_listens_beyond_loopback_unless_asked(file: Path) -> None:
    """Every listener is on loopback with no variable set, and follows the two variables that open it."""
    assert listeners(loaded(file)) == ["127.0.0.1"] * 3
    asked = "GATEWAY_HOST" if file == GATEWAY else "COLLECTOR_OTLP_HOST"
    opened = loaded(file, **{asked: "10.0.0.4", "COLLECTOR_PROMETHEUS_HOST": "10.0.0.5"})
    assert listeners(opened) == ["10.0.0.4", "10.0.0.4", "10.0.0.5"]
    assert loaded(file)["service"]["telemetry"]["metrics"]["level"] == "none"  # it has a listener of its own


@both
def test_every_variable_is_explained_with_its_default(file: Path) -> None:
    """The head of the file lists the variables it uses, and one without a default is said to be needed."""
    text = file.read_text()
    explained = {match["name"]: match["says"] for match in DOCUMENTED.finditer(text)}
    used = {match["name"]: match["default"] for match in VARIABLE.finditer(text)}
    assert set(explained) == set(used)
    for name, default in used.items():
        assert ("Needed" in explained[name]) == (default is None), name
        if default and not name.endswith("_ENDPOINT"):
            assert f"{default} " in explained[name] and "unless set" in explained[name], name


def test_the_gateway_lets_nobody_in_without_token_and_encryption() -> None:
    """Each way in asks for the bearer token, and has a certificate; the token is in a file, with no default."""
    config = loaded(GATEWAY, GATEWAY_TOKEN="/t", GATEWAY_CERT="/c", GATEWAY_KEY="/k")
    for server in config["receivers"]["otlp"]["protocols"].values():
        assert server["auth"] == {"authenticator": "bearertokenauth"}
        assert server["tls"] == {"cert_file": "/c", "key_file": "/k"}
    assert config["extensions"]["bearertokenauth"] == {"filename": "/t"}
    assert loaded(GATEWAY)["extensions"]["bearertokenauth"] == {"filename": ""}  # so it does not start


def test_per_node_the_core_distribution_is_enough() -> None:
    """The configuration per node needs no component of the contrib distribution."""
    config = loaded(NODE)
    kinds = {
        name.partition("/")[0] for kind in ("receivers", "processors", "exporters") for name in config[kind]
    }
    assert kinds <= CORE and "extensions" not in config


def prometheus_name(name: str, kind: str, unit: str) -> str:
    """The collector's rule for names with suffixes, for a gauge, counter or histogram.

    The unit is written out and added unless the name has it; a unit in braces is none. A counter ends with total, a
    gauge whose unit is 1 with ratio.
    """
    words = re.findall(r"[A-Za-z0-9:]+", name)
    written = {"s": "seconds", "ms": "milliseconds", "By": "bytes"}.get(unit, re.sub(r"\{[^}]*\}", "", unit))
    if written and written != "1" and written not in words:
        words.append(written)
    if kind == "counter":
        words = [word for word in words if word != "total"] + ["total"]
    if kind == "gauge" and unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    return "_".join(words)


@both
def test_our_metrics_keep_their_names_in_prometheus(file: Path) -> None:
    """With suffixes on, the collector's rules leave every one of our names as it is documented."""
    assert loaded(file)["exporters"]["prometheus"]["add_metric_suffixes"] is True
    ours = {each.name: prometheus_name(each.name, each.kind, each.unit) for each in cluster}
    assert ours == {name: name for name in ours}
    assert prometheus_name("visits", "counter", "{visit}") == "visits_total"  # a user's own
    assert prometheus_name("load.time", "histogram", "s") == "load_time_seconds"


@both
def test_nodes_can_be_told_apart(file: Path) -> None:
    """Resource attributes become labels, or the series of two nodes would be one."""
    assert loaded(file)["exporters"]["prometheus"]["resource_to_telemetry_conversion"] == {"enabled": True}
