"""The standard variables: what they turn on, where it goes, and what becomes of those that are of no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from observe.otel_variables import read

HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, ()),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "1000"}, ()),
        (HERE, ("otlp_proto_grpc",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4317"}, ("otlp_proto_grpc",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, ()),
        ({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp_proto_http",)),
        (
            {
                **HERE,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
            },
            ("otlp_proto_grpc",),
        ),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, ("otlp_proto_grpc",)),
        ({"OTEL_METRICS_EXPORTER": " console , otlp "}, ("console", "otlp_proto_grpc")),
        ({"OTEL_METRICS_EXPORTER": "otlp,otlp_proto_grpc"}, ("otlp_proto_grpc",)),
        ({**HERE, "OTEL_METRICS_EXPORTER": "none"}, ()),
        ({**HERE, "OTEL_METRICS_EXPORTER": ""}, ("otlp_proto_grpc",)),
        ({**HERE, "OTEL_SDK_DISABLED": "true"}, ()),
        ({**HERE, "OTEL_SDK_DISABLED": "TRUE "}, ()),
        ({**HERE, "OTEL_SDK_DISABLED": "false"}, ("otlp_proto_grpc",)),
    ],
    ids=repr,
)
def test_exporters_are_those_that_the_variables_name(
    environ: dict[str, str], exporters: tuple[str, ...]
) -> None:
    """Nothing set: nothing leaves. An endpoint alone is enough."""
    found = read(environ)
    assert (found.exporters, found.unusable) == (exporters, {})


def test_times_are_milliseconds_with_the_defaults_of_the_specification() -> None:
    """A minute between exports, half a minute for each."""
    assert (read({}).interval_s, read({}).timeout_s) == (60.0, 30.0)
    found = read({"OTEL_METRIC_EXPORT_INTERVAL": "1500", "OTEL_METRIC_EXPORT_TIMEOUT": " 250 "})
    assert (found.interval_s, found.timeout_s) == (1.5, 0.25)


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        (HERE, "http://collector:4317"),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "collector:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:secret@c:4317/?key=1"}, "https://c:4317/"),
        ({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://collector:4317/v1/metrics"),
        (
            {
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/push",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "http://c/push",
        ),
    ],
    ids=repr,
)
def test_the_endpoint_that_is_shown_is_where_it_goes_without_what_is_secret(
    environ: dict[str, str], endpoint: str
) -> None:
    """People see it in a status; a password is none of their business."""
    assert list(read(environ).endpoint.values()) == [endpoint]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "inf"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "nan"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "-1"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "carrier pigeon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "deflate"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: secret"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "=secret"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/secret.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/nowhere/secret.pem"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "maybe"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
    ],
)
def test_a_value_of_no_use_is_told_by_name_and_everything_else_goes_on(name: str, value: str) -> None:
    """As the specification has it: warn, and act as if it were not set. What it says may be secret."""
    found = read({**HERE, name: value})
    assert list(found.unusable) == [name]
    assert found.exporters == ("otlp_proto_grpc",)
    assert (found.interval_s, found.timeout_s) == (60.0, 30.0)
    if name.endswith("HEADERS"):
        assert "secret" not in found.unusable[name]


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "ftp://collector", "http://", "http://[::1", "http://c:x"]
)
def test_no_metrics_go_to_a_place_that_was_not_meant(endpoint: str) -> None:
    """An endpoint that is no URL is not replaced by the default one; other exporters go on."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "otlp,console",
    }
    found = read(environ)
    assert found.exporters == ("console",)
    assert "no metrics leave by otlp_proto_http" in found.unusable["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_none_beside_others_is_told_and_the_others_are_used() -> None:
    """Two wishes that contradict each other."""
    found = read({"OTEL_METRICS_EXPORTER": "none,console"})
    assert found.exporters == ("console",)
    assert "console" in found.unusable["OTEL_METRICS_EXPORTER"]


def test_deflate_and_files_that_are_there_are_of_use_with_http(tmp_path: Path) -> None:
    """What one protocol lacks the other has."""
    certificate = tmp_path / "ca.pem"
    certificate.write_text("")
    environ = {
        **HERE,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate),
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,other=y",
    }
    assert read(environ).unusable == {}
