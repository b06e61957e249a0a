"""An agent is killed with spans in flight: which arrive, which arrive twice, and which are lost with it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import ray

from cluster_app import Cluster, Entity, entity, message
from tests.outages.test_outages import HTTP, agent_pid
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.receiver import ArrivedSpan, Receiver

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(150)]

EACH = 20


@entity(max_idle_time=None)
class Ledger(Entity):
    @message
    def enter(self, phase: str) -> str:
        return phase


def send(cluster: Cluster, phase: str) -> None:
    """Messages whose spans can be told from others: by their entity."""
    ledger = cluster.entity(Ledger, phase)
    assert [ledger.enter.remote(phase) for _ in range(EACH)][-1].result(60) == phase


def taken(cluster: Cluster) -> None:
    """The agent has taken all spans so far, and their processes know."""
    cluster.metrics()
    cluster.metrics()  # what is asked for now comes behind the answer to what came before


def of_phase(receiver: Receiver, phase: str) -> list[ArrivedSpan]:
    """What has arrived of the messages, at both ends."""
    return [
        span
        for span in receiver.spans
        if span.attributes.get("cluster.entity.id") == phase and not span.name.startswith("activate ")
    ]


def test_what_an_agent_had_not_exported_is_lost_with_it_and_nothing_else() -> None:
    """Spans are in no journal. Those that it has exported are there, and those that it had not taken come later.

    Taken and exported, and its process not told so: they may come twice, with the same ids.
    """
    receiver = Receiver()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",  # it exports when it is asked to, and else keeps them
        **HTTP,
    }
    try:
        with cluster_that_exports(environment) as cluster:
            send(cluster, "begin")
            pid = agent_pid(cluster)
            agent: Any = ray.get_actor(
                f"agent-{cluster.status().telemetry[0].node_id}", namespace="cluster_app"
            )
            send(cluster, "exported")
            taken(cluster)
            ray.get(agent.export.remote(), timeout=60)
            assert len(of_phase(receiver, "exported")) == 2 * EACH
            send(cluster, "lost")
            taken(cluster)
            send(cluster, "on its way")
            os.kill(pid, signal.SIGKILL)
            send(cluster, "while it is away")
            pid = agent_pid(cluster, other_than=pid)
            send(cluster, "after")
            cluster.metrics()  # taken, and not answered yet: that may come within a second
            ray.get(agent.export.remote(), timeout=60)
            os.kill(pid, signal.SIGKILL)
            pid = agent_pid(cluster, other_than=pid)
            send(cluster, "end")
            cluster.shutdown()
        for phase in ("exported", "while it is away", "end"):
            arrived = of_phase(receiver, phase)
            ids = {span.span_id for span in arrived}
            assert (len(arrived), len(ids)) == (2 * EACH, 2 * EACH), phase
        assert of_phase(receiver, "lost") == []
        arrived = of_phase(receiver, "on its way")  # all, unless its processes have been told meanwhile
        assert len(arrived) == len({span.span_id for span in arrived})
        after = of_phase(receiver, "after")
        assert len({span.span_id for span in after}) == 2 * EACH and len(after) <= 4 * EACH
        assert len({(span.span_id, span.name, span.start_ns, span.end_ns) for span in after}) == 2 * EACH
    finally:
        receiver.close()
