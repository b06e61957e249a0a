"""Our own sides, on a cluster in memory: what they send and count, and that a planted fault ends them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_app.bench import entity_messages, entity_one_at_a_time, entity_to_entity, new_entities
from cluster_app.bench.counters import Counters, counter_ids
from cluster_app.bench.pipeline import WrongValue
from cluster_app.testing import MemoryCluster
from entities.catalog import Counter


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
    assert one_runner.status().entities == {"Counter": 50 + new_entities.WARM_UP}
    with pytest.raises(WrongValue, match="returned 2, not 1"):
        new_entities.one_message_each(one_runner, 1, in_flight=20, expected=1)


def test_one_message_at_a_time_to_one_entity(one_runner: MemoryCluster) -> None:
    """Each is answered before the next is sent."""
    latency = entity_one_at_a_time.measure(one_runner, messages=20)
    assert latency.messages == 20
    assert 0 <= latency.p50_us <= latency.p99_us


def test_an_entity_asks_another_as_often_as_it_is_told(one_runner: MemoryCluster) -> None:
    """A latency for each question, and each is a message that is counted."""
    latency = entity_to_entity.measure(one_runner, messages=1_234)
    assert latency.messages == 1_234
    assert counted(one_runner) == 1_234 + entity_to_entity.WARM_UP + 1
