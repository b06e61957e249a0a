"""A drain on real Ray arrives where traces go: one span for it, and one for the runner that was emptied."""

from __future__ import annotations

import pytest

from cluster_app import Entity, entity, message
from tests.ray.seen import seen
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

ARRIVES_S = 30.0


@entity(name="moved.Desk", max_idle_time=None)
class Desk(Entity):
    """Lives somewhere."""

    @message
    def here(self) -> bool:
        return True


def test_a_drain_arrives_as_one_trace() -> None:
    """With the numbers that `drain` returns, under the node of the coordinator that made it."""
    receiver = Receiver()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "CLUSTER_APP_RUNNERS_PER_NODE": "2",
    }
    try:
        with cluster_that_exports(environment) as cluster:
            assert cluster.entity(Desk, "one").here.remote().result(60)
            status = seen(
                cluster, lambda s: s.shards == 300 and min(r.shards for r in s.runners) > 0, within_s=30
            )
            drained = status.runners[0]
            result = cluster.drain(drained.id, timeout_s=30)
            assert receiver.wait_for(
                lambda: {"handoff drain", "hand over"} <= receiver.span_names(), ARRIVES_S
            )
            cluster.shutdown()
    finally:
        receiver.close()
    (whole,) = [span for span in receiver.spans if span.name == "handoff drain"]
    (part,) = [
        span for span in receiver.spans if (span.trace_id, span.parent_id) == (whole.trace_id, whole.span_id)
    ]
    assert whole.parent_id == "" and part.name == "hand over"
    assert part.attributes["cluster.runner"] == drained.id
    assert whole.attributes["cluster.node"] == drained.node_id
    for span in (whole, part):
        assert span.attributes["cluster.handoff.shards"] == result.shards
        assert span.attributes["cluster.outcome"] == "ok"
    assert whole.start_ns <= part.start_ns <= part.end_ns <= whole.end_ns
