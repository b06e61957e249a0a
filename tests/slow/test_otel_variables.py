"""The standard variables, set where `ray start` is and nowhere else, decide what leaves: also by TLS."""

from __future__ import annotations

import json
import sys

import pytest

from tests.slow.started_ray import started
from tests.telemetry.certificates import Authority
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]

SENT = "cluster_messages_sent_total"
DRIVER = """
import json, os
from cluster_app import connect
from entities.catalog import Counter

assert not [name for name in os.environ if name.startswith("OTEL_")]
with connect() as cluster:
    counter = cluster.entity(Counter, "x")
    assert [counter.increment.remote(1) for _ in range(250)][-1].result(60) == 250
    counted = cluster.metrics().value("cluster_messages_sent_total", entity_type="Counter")
    status = cluster.status().as_dict()["telemetry"]
    cluster.shutdown()
print(json.dumps({"counted": counted, "telemetry": status}))
"""


def test_variables_of_ray_start_reach_the_collector(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Endpoint, protocol, headers, resource, name, certificates: all of them, though no driver has any."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    receiver = Receiver(authority.server(asks_clients=True))
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=airline,authorization=Bearer%20secret",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,service.instance.id=theirs",
        "OTEL_SERVICE_NAME": "flights",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        **authority.trusted,
        **authority.signed,
    }
    try:
        # Ray's sockets lie in its folder, and their paths must be short.
        with started(tmp_path_factory.mktemp("r"), variables) as ray:
            ran = ray.run(sys.executable, "-c", DRIVER)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (line,) = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        told = json.loads(line)
        assert told["counted"] == receiver.total(SENT, entity_type="Counter") == 250
        for state in told["telemetry"]:  # metrics, and traces, of which there were none
            assert state["endpoint"].startswith(receiver.endpoint) and state["failures"] == 0
        assert "secret" not in line
        for headers in receiver.headers:
            assert (headers["x-tenant"], headers["authorization"]) == ("airline", "Bearer secret")
        ((node, resource),) = receiver.resources.items()
        assert (
            {node} == {state["node_id"] for state in told["telemetry"]} == {resource["service.instance.id"]}
        )
        assert resource["service.name"] == "flights"
        assert resource["deployment.environment.name"] == "staging"
    finally:
        receiver.close()
