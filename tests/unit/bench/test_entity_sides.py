"""Our own sides, on a cluster in memory: what they send and count, and that a planted fault ends them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from opentelemetry import trace

from cluster_app.bench import (
    entity_messages,
    entity_one_at_a_time,
    entity_to_entity,
    idle_entities,
    new_entities,
    ray_instance,
    tracing_on_off,
)
from cluster_app.bench.counters import Counters, counter_ids
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.untraced_message import untraced
from cluster_app.reference import OutgoingMessage
from cluster_app.testing import MemoryCluster
from entities.catalog import Counter
from observe import sampling


@pytest.fixture
def one_runner() -> Iterator[MemoryCluster]:
    """A cluster in memory with one runner, as is measured."""
    with MemoryCluster(runners=1) as cluster:
        yield cluster


def counted(cluster: MemoryCluster) -> float:
    """Messages that counters received."""
    return cluster.metrics().value("cluster_messages_received_total", entity_type="Counter")


def test_pipelined_messages_go_to_all_entities_and_are_all_counted(one_runner: MemoryCluster) -> None:
    """One message each to warm up, then the measured ones, in turn."""
    pace = entity_messages.measure(one_runner, messages=250, in_flight=30, entities=20)
    assert (pace.messages, counted(one_runner)) == (250, 270)
    sums = [
        one_runner.entity(Counter, entity_id).read.remote().result() for entity_id in counter_ids(range(20))
    ]
    assert sums == [14] * 10 + [13] * 10


def test_traces_are_measured_with_each_kind_sampled_as_it_says(one_runner: MemoryCluster) -> None:
    """All messages are counted, whichever way they went; none is sampled where none is to be."""
    found = tracing_on_off.measure(one_runner, pairs=2, messages=320, in_flight=30, entities=20)
    assert counted(one_runner) == 2 * 320 * 4 + 32 + 20
    assert [len(found[name]) for name in tracing_on_off.KINDS] == [2] * 4 and len(found["all_us"]) == 1
    names = [span.name for span in one_runner.spans()]
    # Sender and runner share a process here, so each sampled message has two spans in it.
    assert 2 * names.count("send Counter.increment") == 2 * 32 + round(found["share"] * 640)


def test_a_remote_without_traces_is_the_same_without_the_look(
    one_runner: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends as the other does, though it is called in a trace; and a source that looks elsewhere is noticed."""
    sampling.begin({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, anew=True)
    try:
        counter: Any = one_runner.entity(Counter, "x")
        here = trace.SpanContext(
            1, 2, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
        )
        with trace.use_span(trace.NonRecordingSpan(here)):
            assert untraced(counter.increment)(2).result() == 2
            assert one_runner.spans() == []
            assert counter.increment.remote(1).result() == 3
        assert len(one_runner.spans()) == 2
        monkeypatch.setattr(OutgoingMessage, "remote", OutgoingMessage.hurry)
        with pytest.raises(LookupError, match="0 times"):
            untraced(counter.increment)
    finally:
        sampling.begin(anew=True)


def test_a_message_of_somebody_else_is_a_wrong_value(one_runner: MemoryCluster) -> None:
    """One counter among many that has added up one more than it was told ends the measurement."""
    one_runner.entity(Counter, "counter-13").increment.remote(1).result()
    with pytest.raises(WrongValue, match="message 13 returned 2, not 1"):
        entity_messages.measure(one_runner, messages=250, in_flight=30, entities=20)


def test_a_message_that_is_not_counted_once_ends_the_measurement(one_runner: MemoryCluster) -> None:
    """A speed is one at which the cluster's own count is that of what was sent, to the unit."""
    one_runner.entity(Counter, "bystander").increment.remote(1).result()
    with pytest.raises(WrongValue, match="cluster_messages_sent_total is 271 after 270 messages"):
        entity_messages.measure(one_runner, messages=250, in_flight=30, entities=20)


def test_later_messages_go_on_where_the_last_ended(one_runner: MemoryCluster) -> None:
    """Blocks of any size can follow each other."""
    counters = Counters(one_runner, counter_ids(range(7)))
    for messages in (3, 10, 1, 20):
        assert counters.pace(messages, in_flight=5).messages == messages
    again = Counters(one_runner, counter_ids(range(6)), before=5)
    assert again.pace(6, in_flight=5).messages == 6


def test_first_messages_activate_each_entity_once(one_runner: MemoryCluster) -> None:
    """As many activations as new entities, beside those that warm up."""
    pace = new_entities.measure(one_runner, entities=50, in_flight=20)
    assert pace.messages == 50
    assert counted(one_runner) == 50 + new_entities.WARM_UP
    assert one_runner.status().entities == {"Counter": 50 + new_entities.WARM_UP}
    with pytest.raises(WrongValue, match="returned 2, not 1"):
        new_entities.one_message_each(one_runner, 1, in_flight=20, expected=1)


def test_few_and_many_have_messages_in_turns_and_all_are_counted() -> None:
    """Each on a cluster of its own, three times the messages, and the many answer twice before."""
    with MemoryCluster(runners=1) as few, MemoryCluster(runners=1) as many:
        found = idle_entities.measure(few, many, entities=60, messages=90, in_flight=20, sample=30)
        assert [pace["messages"] for pace in found["among_few"] + found["among_many"]] == [90] * 6
        assert (found["entities"], found["sample"]) == (60, 30)
        assert counted(few) == idle_entities.FEW + 3 * 90
        assert counted(many) == idle_entities.FEW + 90 + 2 * 60 + 30 + 3 * 90


def test_a_side_as_a_program_is_asked_by_its_argument_and_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a cluster if it wants one, and none beside its Ray otherwise."""
    monkeypatch.setattr(ray_instance, "fresh_ray", nullcontext)
    monkeypatch.setattr(ray_instance, "fresh_cluster", lambda: MemoryCluster(runners=1))
    monkeypatch.setattr(sys, "argv", ["side", '{"messages": 20}'])
    run_side(entity_one_at_a_time.measure, cluster=True)
    run_side(lambda messages: {"asked": messages})
    latency, plain = map(json.loads, capsys.readouterr().out.splitlines())
    assert (latency["messages"], list(latency)) == (20, ["messages", "p50_us", "p99_us", "cpu_us"])
    assert plain == {"asked": 20}


def test_one_message_at_a_time_to_one_entity(one_runner: MemoryCluster) -> None:
    """Each is answered before the next is sent."""
    latency = entity_one_at_a_time.measure(one_runner, messages=20)
    assert latency.messages == 20
    assert 0 <= latency.p50_us <= latency.p99_us and latency.cpu_us > 0


def test_an_entity_asks_another_as_often_as_it_is_told(one_runner: MemoryCluster) -> None:
    """A latency for each question, and each is a message that is counted."""
    latency = entity_to_entity.measure(one_runner, messages=1_234)
    assert latency.messages == 1_234
    assert counted(one_runner) == 1_234 + entity_to_entity.WARM_UP + 1
