"""A chain of messages arrives at a real collector as one trace, with the user's own span and counter in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from cluster_app import Entity, entity, message
from tests.ray.seen import seen
from tests.slow.two_nodes import settled
from tests.telemetry.collector import Collector
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.receiver import ArrivedSpan

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

ARRIVES_S = 30.0
SLACK_NS = 5_000_000  # times of two processes are two readings of one clock


@entity(name="tracing.Stop", max_idle_time=None)
class Stop(Entity):
    """One stop of a chain; the last one does what users do."""

    @message
    async def go(self, *rest: str) -> int:
        if not rest:
            from opentelemetry import metrics, trace

            with trace.get_tracer("shop", "2.0").start_as_current_span("look up") as span:
                span.set_attribute("rows", 3)
                metrics.get_meter("shop").create_counter("shop.lookups").add(1)
            trace.get_current_span().set_attribute("last", True)
            return 1
        return 1 + await self.entity(Stop, rest[0]).go.remote(*rest[1:])

    @message
    def runner(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_actor_name())


@entity(name="tracing.Far", hosting="actor", max_idle_time=None)
class Far(Entity):
    """Has a process of its own."""

    @message
    async def go(self, *rest: str) -> int:
        from opentelemetry import trace

        with trace.get_tracer("far").start_as_current_span("far off"):
            return 1 + await self.entity(Stop, rest[0]).go.remote(*rest[1:])


def is_child(child: ArrivedSpan, parent: ArrivedSpan) -> bool:
    """Whether a span belongs under another and lies in its time."""
    return (
        (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)
        and parent.start_ns - SLACK_NS <= child.start_ns
        and child.end_ns <= parent.end_ns + SLACK_NS
    )


def test_a_chain_over_two_runners_is_one_trace_at_the_collector(tmp_path: Path) -> None:
    """Driver, an entity with a process of its own, and entities on two runners: right parents, right times.

    In between a span and a counter of the user's own; and the latency's exemplar leads to the trace.
    """
    collector = Collector(tmp_path)
    receiver = collector.receiver
    environment = {
        **collector.environment("http/protobuf"),
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "CLUSTER_APP_RUNNERS_PER_NODE": "2",
    }
    try:
        with cluster_that_exports(environment) as cluster:
            a, b = on_two_runners(cluster)
            assert cluster.entity(Far, "far").go.remote(a, b).result(60) == 3
            cluster.metrics()
            assert receiver.wait_for(lambda: "send tracing.Far.go" in receiver.span_names(), ARRIVES_S)
            cluster.shutdown()
        collector.stop()
        chain = {
            (span.name, span.attributes.get("cluster.entity.id", "")): span
            for span in receiver.spans
            if span.trace_id == next(s.trace_id for s in receiver.spans if s.name == "send tracing.Far.go")
        }
    finally:
        collector.close()
    order: list[tuple[str, Any]] = [
        ("send tracing.Far.go", "far"),
        ("process tracing.Far.go", "far"),
        ("handle tracing.Far.go", "far"),
        ("far off", ""),
        ("send tracing.Stop.go", a),
        ("process tracing.Stop.go", a),
        ("send tracing.Stop.go", b),
        ("process tracing.Stop.go", b),
        ("look up", ""),
    ]
    assert chain[order[0]].parent_id == ""
    for parent, child in itertools.pairwise(order):
        assert is_child(chain[child], chain[parent]), (parent, child)
    assert is_child(chain["activate tracing.Far", "far"], chain[order[1]])
    assert is_child(chain["begin tracing.Far", "far"], chain["activate tracing.Far", "far"])
    runners = [chain["process tracing.Stop.go", stop].attributes["cluster.runner"] for stop in (a, b)]
    assert len(set(runners)) == 2
    mine = chain["look up", ""]
    assert (mine.scope, mine.attributes["rows"]) == ("shop", 3)
    assert chain["process tracing.Stop.go", b].attributes["last"] is True
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans)  # each has left once
    assert receiver.total("shop.lookups") == 1
    exemplars = receiver.exemplars("cluster_message_latency_seconds", entity_type="tracing.Far")
    assert (chain[order[0]].trace_id, chain[order[0]].span_id) in exemplars
    assert {span.node for span in receiver.spans} == set(receiver.resources)


def on_two_runners(cluster: Any) -> tuple[str, str]:
    """The ids of two stops on different runners."""
    # A shard that is still on its way would have its entity live elsewhere a moment later.
    seen(cluster, lambda status: len(status.runners) == 2 and settled(status), within_s=60)
    first = cluster.entity(Stop, "s0").runner.remote().result(60)
    for number in range(1, 100):
        if cluster.entity(Stop, f"s{number}").runner.remote().result(60) != first:
            return "s0", f"s{number}"
    raise AssertionError("a hundred stops on one runner of two")
