"""Telemetry leaves by TLS: to a collector that is believed by the standard variables, and to no other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from observe.exports import Exports
from tests.telemetry.certificates import Authority
from tests.telemetry.grpc_receiver import GrpcReceiver
from tests.telemetry.receiver import Receiver
from tests.unit.observe.test_exports import loggers_as_they_were
from tests.unit.observe.test_node_agent import agent_on, report

__all__ = ["loggers_as_they_were"]

SENT = "cluster_messages_sent_total"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who has signed what the receiver shows."""
    return Authority(tmp_path)


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """By what telemetry leaves."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["any client", "signed clients"])
def receiver(
    authority: Authority, protocol: str, request: pytest.FixtureRequest
) -> Iterator[Receiver | GrpcReceiver]:
    """A receiver that is reached by TLS; in one case it takes only clients that the authority has signed."""
    made = receiving(authority, protocol, asks_clients=request.param)
    yield made
    made.close()


def receiving(authority: Authority, protocol: str, *, asks_clients: bool) -> Receiver | GrpcReceiver:
    """A receiver that shows what the authority has signed."""
    if protocol == "grpc":
        return GrpcReceiver(authority.grpc_server(asks_clients=asks_clients))
    return Receiver(authority.server(asks_clients=asks_clients))


@pytest.fixture(autouse=True)
def others_are_believed_too(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine believes another authority in all else: that must not count here."""
    other = Authority(tmp_path_factory.mktemp("other")).trusted["OTEL_EXPORTER_OTLP_CERTIFICATE"]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", other)


def exporting(
    receiver: Receiver | GrpcReceiver,
    patch: pytest.MonkeyPatch,
    *variables: dict[str, str],
    within_s: str = "10",
) -> Exports:
    """The ways out of a node that has counted, where these variables are set.

    :param within_s: until then an export is tried again.
    """
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    protocol = "grpc" if isinstance(receiver, GrpcReceiver) else "http/protobuf"
    patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", within_s)
    for name, value in {name: value for some in variables for name, value in some.items()}.items():
        patch.setenv(name, value)
    agent = agent_on()
    agent.merge(report("p", 1, sent=3))
    return Exports(agent, "n", "s", "1", environ=os.environ)


def test_a_collector_whose_certificate_is_believed_gets_all(
    receiver: Receiver | GrpcReceiver, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `OTEL_EXPORTER_OTLP_CERTIFICATE`; and by those of the client where the collector asks for one."""
    exports = exporting(receiver, monkeypatch, authority.trusted, authority.signed)
    exports.flush(20)
    exports.close(20)
    assert receiver.total(SENT) == 3
    (state,) = exports.status
    assert (state.failures, state.error) == (0, "") and state.exports > 0


def test_a_collector_that_nobody_vouches_for_gets_nothing(
    receiver: Receiver | GrpcReceiver,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line says so, however often it is tried; the status counts each time, and says why."""
    with caplog.at_level(logging.WARNING):
        exports = exporting(receiver, monkeypatch, authority.signed, within_s="2")
        exports.flush(20)
        exports.close(20)
    assert receiver.requests == 0
    (state,) = exports.status
    assert state.exports == 0 and state.failures >= 2
    assert "CERTIFICATE_VERIFY_FAILED" in state.error
    assert [line for line in caplog.messages if "does not leave by otlp_proto_" in line] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_collector_that_asks_for_a_certificate_takes_nobody_without(
    authority: Authority, protocol: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The status says that it is the connection."""
    receiver = receiving(authority, protocol, asks_clients=True)
    exports = exporting(receiver, monkeypatch, authority.trusted, within_s="1")
    exports.flush(20)
    exports.close(20)
    receiver.close()
    assert receiver.requests == 0
    (state,) = exports.status
    assert state.exports == 0 and state.failures > 0 and state.error
    assert len(caplog.messages) == 1
