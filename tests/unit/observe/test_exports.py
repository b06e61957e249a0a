"""All ways out of a node: by the environment, with the SDK's own exporters."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from observe.exporter_log import ExporterLog
from observe.exports import Exports
from tests.source import ROOT
from tests.unit.observe.test_node_agent import agent_on, report

NOWHERE = "http://127.0.0.1:1"  # nobody listens there


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """What exporters log goes where it went before."""
    names = ("opentelemetry.exporter", "opentelemetry.sdk.metrics")
    before = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names
    }
    yield
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).propagate = propagate


def test_nothing_configured_starts_and_loads_nothing() -> None:
    """No thread, no OpenTelemetry, no gRPC."""
    program = (
        "import sys, threading\n"
        "from observe.exports import Exports\n"
        "exports = Exports(None, 'n', 's', '1', environ={'OTEL_METRIC_EXPORT_INTERVAL': '10'})\n"
        "exports.flush(5); exports.close(5)\n"
        "print(exports.status, threading.active_count(), {'opentelemetry', 'grpc'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("[] 1 set()", "")


def test_what_is_of_no_use_is_told_once_and_taken_out_of_the_environment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The SDK reads it too, and would stumble; its own words for it stay unsaid."""
    environ = {
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "soon",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
    }
    Exports(agent_on(), "n", "s", "1", environ=environ)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.messages[0].startswith("OTEL_METRIC_EXPORT_INTERVAL cannot be used: ")
    assert "soon" not in caplog.text
    assert "OTEL_METRIC_EXPORT_INTERVAL" not in environ
    assert environ["OTEL_EXPORTER_OTLP_HEADERS"] == "a=b"


@pytest.mark.parametrize(
    ("exporter", "says"),
    [
        ("otlp-by-mail", "no exporter is called 'otlp-by-mail'; there are: console, otlp"),
        ("prometheus", "waits to be asked"),
    ],
)
def test_an_exporter_that_there_is_not_is_named_and_the_others_go_on(exporter: str, says: str) -> None:
    """One line that names the variable; what the console shows is the proof that it goes on."""
    program = f"""
from observe.exports import Exports
from tests.unit.observe.test_node_agent import agent_on, report
agent = agent_on()
agent.merge(report("p", 1, 7))
exports = Exports(agent, "node-1", "s", "1", environ={{"OTEL_METRICS_EXPORTER": "{exporter},console"}})
exports.close(30.0)
print([(state.exporter, state.exports, bool(state.error)) for state in exports.status])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == f"[('{exporter}', 0, True), ('console', 1, False)]"
    assert '"cluster_messages_sent_total"' in ran.stdout
    [line] = ran.stderr.splitlines()
    assert "OTEL_METRICS_EXPORTER" in line
    assert says in line


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_not_there_is_one_line_with_the_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """The SDK logs each try; here it is the reason that our own line gives. Its end is not waited for long."""
    nobody_listens(monkeypatch, protocol)
    agent = agent_on()
    agent.merge(report("p", 1, 7))
    exports = Exports(agent, "node-1", "s", "1")
    exports.flush(30.0)
    exports.flush(30.0)
    [status] = exports.status
    exports.close(30.0)
    assert (status.exports, status.failures) == (0, 2)
    assert status.endpoint.startswith(NOWHERE)
    assert [record.name for record in caplog.records] == ["observe.way_out"]
    assert status.error.startswith("Failed to export metrics")
    assert status.error in caplog.messages[0]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_whoever_fails_for_the_same_reason_says_it_too(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Each export, though the SDK leaves out what it has just logged, for another signal or collector as well."""
    from opentelemetry.exporter.otlp.proto.grpc.exporter import logger
    from opentelemetry.sdk._shared_internal import DuplicateFilter

    logger.addFilter(DuplicateFilter())  # as it is when the exporter is loaded for the first time
    nobody_listens(monkeypatch, protocol)
    for _ in range(2):
        agent = agent_on()
        agent.merge(report("p", 1, 7))
        exports = Exports(agent, "node-1", "s", "1")
        for _ in range(2):
            exports.flush(30.0)
            (status,) = exports.status
            assert status.error.startswith("Failed to export metrics")
        exports.close(30.0)


def nobody_listens(patch: pytest.MonkeyPatch, protocol: str) -> None:
    """Have the standard variables lead nowhere, and tell an exporter not to try for long."""
    for name, value in (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
    ):
        patch.setenv(name, value)


def test_what_an_exporter_logs_is_kept_for_its_thread_until_the_log_is_detached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And then the loggers are as before."""
    log = ExporterLog()
    log.attach()
    log.attach()
    logger = logging.getLogger("opentelemetry.exporter.otlp.somewhere")
    logger.warning("first %s", 1)
    logger.error("second")
    assert (log.take(), log.take()) == ("second; first 1", None)
    assert caplog.records == []
    log.detach()
    logger.error("third")
    assert log.take() is None
    assert caplog.messages == ["third"]
