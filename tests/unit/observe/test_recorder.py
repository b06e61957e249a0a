"""Cells, recorders and totals: every count exact, nothing counted twice."""

from __future__ import annotations

import pickle
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observe.cells import HistogramCell
from observe.instruments import LATENCY_EDGES_S, Instrument, cluster
from observe.recorder import Recorder, process_gauges, process_recorder, process_totals
from observe.totals import PointValue, Totals, merge, subtract

SENT = ("cluster_messages_sent_total", ("A", "send"))
LIVE = ("cluster_entities", ("A",))

# Multiples of a power of two add without rounding: sums are exact, so they can be compared exactly.
exact_floats = st.integers(0, 2**20).map(lambda number: number / 1024)
values_near_edges = st.one_of(
    st.sampled_from(LATENCY_EDGES_S),
    st.sampled_from(LATENCY_EDGES_S).map(lambda edge: edge * (1 + sys.float_info.epsilon)),
    st.floats(0, 10),
)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A recorder that leaves the process's list when the test ends."""
    made = Recorder()
    yield made
    made.close()


def reference_counts(values: list[float]) -> list[int]:
    """The bucket rule of OpenTelemetry: the first bucket whose upper edge is not below the value."""
    counts = [0] * (len(LATENCY_EDGES_S) + 1)
    for value in values:
        inside = [index for index, edge in enumerate(LATENCY_EDGES_S) if value <= edge]
        counts[inside[0] if inside else len(LATENCY_EDGES_S)] += 1
    return counts


@pytest.mark.parametrize("edge", LATENCY_EDGES_S)
def test_a_value_on_an_edge_belongs_to_the_bucket_below_it(edge: float) -> None:
    """Edges are inclusive, for one value and for a batch."""
    one, many = HistogramCell(LATENCY_EDGES_S), HistogramCell(LATENCY_EDGES_S)
    one.record(edge)
    many.record_many([edge] * 20)
    bucket = LATENCY_EDGES_S.index(edge)
    assert one.counts[bucket] == 1
    assert many.counts[bucket] == 20


@settings(max_examples=300)
@given(st.lists(values_near_edges, max_size=200))
def test_a_batch_is_counted_as_its_values_one_by_one(values: list[float]) -> None:
    """The shortcuts for batches change no bucket, and leave the caller's list as it was."""
    before = list(values)
    cell = HistogramCell(LATENCY_EDGES_S)
    cell.record_many(values)
    assert cell.counts == reference_counts(values)
    assert values == before


@given(st.lists(st.sampled_from([0.00005, 0.0001, 0.0002, 0.0004, 3.0, 9.0]), min_size=16, max_size=400))
def test_a_batch_with_most_values_alike_is_counted_exactly(values: list[float]) -> None:
    """The usual batch, nearly all in a bucket or two, a few far off, takes the short way and stays exact."""
    cell = HistogramCell(LATENCY_EDGES_S)
    cell.record_many(values)
    assert cell.counts == reference_counts(values)


@given(st.lists(st.lists(exact_floats, max_size=60), max_size=6))
def test_the_sum_is_the_sum_of_the_values_themselves(batches: list[list[float]]) -> None:
    """No value is replaced by its bucket's midpoint."""
    cell = HistogramCell(LATENCY_EDGES_S)
    for batch in batches:
        cell.record_many(batch)
    assert Fraction(cell.sum) == sum((Fraction(value) for batch in batches for value in batch), Fraction(0))


def test_the_same_labels_give_the_same_cell_in_any_order_and_form(recorder: Recorder) -> None:
    """Whoever binds the same series adds to the same number."""

    class A:
        """A class whose name is the label."""

    first = recorder.counter(cluster.messages_sent, entity_type="A", operation="send")
    assert recorder.counter(cluster.messages_sent, operation="send", entity_type=A) is first
    assert recorder.counter(cluster.messages_sent, entity_type="A", operation="broadcast") is not first


def test_a_cell_is_of_its_instruments_kind(recorder: Recorder) -> None:
    """A counter gives no histogram cell, nor the other way round, and a gauge neither."""
    with pytest.raises(TypeError, match="not a counter"):
        recorder.counter(cluster.mailbox_wait, entity_type="A")
    with pytest.raises(TypeError, match="not a histogram"):
        recorder.histogram(cluster.messages_sent, entity_type="A", operation="send")
    with pytest.raises(TypeError, match="not a counter"):
        recorder.counter(cluster.runners)


def test_a_label_value_of_any_kind_finds_its_cell(recorder: Recorder) -> None:
    """A value that cannot be hashed is text in the end, like any other."""
    cell = recorder.counter(cluster.entity_activations, entity_type=["A"])
    assert recorder.counter(cluster.entity_activations, entity_type="['A']") is cell


def test_a_cell_can_be_bound_in_the_middle_of_a_batch(recorder: Recorder) -> None:
    """Code that holds the lock may meet labels it has not seen: binding does not wait for itself."""
    bound = threading.Event()

    def batch() -> None:
        with recorder.lock:
            recorder.counter(cluster.errors, entity_type="A", type="Timeout", operation="send").value += 1
        bound.set()

    threading.Thread(target=batch, daemon=True).start()
    assert bound.wait(10)


def test_totals_are_a_copy_that_later_counts_do_not_change(recorder: Recorder) -> None:
    """What was collected stays as it was."""
    cell = recorder.histogram(cluster.entity_lifetime, entity_type="A")
    cell.record(1.0)
    totals = recorder.totals()
    cell.record(1.0)
    assert totals == {("cluster_entity_lifetime_seconds", ("A",)): ((1, 0, 0, 0, 0, 0, 0, 0, 0), 1.0)}


def test_a_cell_that_counted_nothing_makes_no_point(recorder: Recorder) -> None:
    """A series exists once its cause has happened, not when somebody binds it."""
    recorder.counter(cluster.messages_sent, entity_type="A", operation="send")
    recorder.histogram(cluster.mailbox_wait, entity_type="A")
    assert recorder.totals() == Totals()


def test_totals_see_a_batch_whole_or_not_at_all(recorder: Recorder) -> None:
    """A collection that meets a batch waits for its end: sent and latency are never seen apart."""
    sent = recorder.counter(cluster.messages_sent, entity_type="A", operation="send")
    latency = recorder.histogram(cluster.message_latency, entity_type="A", operation="send", outcome="ok")
    collected: list[Totals] = []
    collector = threading.Thread(target=lambda: collected.append(recorder.totals()))
    with recorder.lock:
        sent.value += 50
        collector.start()
        # Never ends in here; without the lock it would, with half the batch.
        collector.join(0.05)
        latency.record_many([0.25] * 50)
    collector.join()
    histogram = ((0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0), 12.5)
    latency_key = ("cluster_message_latency_seconds", ("A", "send", "ok"))
    assert collected == [Totals({SENT: 50, latency_key: histogram})]


def test_threads_that_count_under_the_lock_lose_nothing(recorder: Recorder) -> None:
    """Eight threads, each binding for itself: the sum is theirs, to the unit."""

    def count() -> None:
        cell = recorder.counter(cluster.messages_sent, entity_type="A", operation="send")
        for _ in range(2000):
            with recorder.lock:
                cell.value += 1

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.totals()[SENT] == 16_000


def test_a_recorder_switched_off_collects_nothing() -> None:
    """Its cells work like any other, and leave no trace."""
    recorder = Recorder(enabled=False)
    recorder.counter(cluster.messages_sent, entity_type="Off", operation="send").value += 1
    cell = recorder.histogram(cluster.mailbox_wait, entity_type="Off")
    cell.record(1.0)
    cell.record_many([1.0] * 50)
    recorder.add_gauges(lambda: [(cluster.entities, {"entity_type": "Off"}, 1.0)])
    assert (sum(cell.counts), recorder.totals(), recorder.gauges()) == (0, Totals(), Totals())
    with pytest.raises(ValueError, match="has the labels"):
        recorder.counter(cluster.messages_sent, entity_type="Off")
    recorder.close()


def test_gauges_are_read_when_collected_and_added_up_over_sources(recorder: Recorder) -> None:
    """Two tables of one process, or one that names a point twice, make one sum; a removed one is gone."""
    table = [3.0]
    recorder.add_gauges(lambda: [(cluster.entities, {"entity_type": "A"}, value) for value in table])
    remove = recorder.add_gauges(lambda: [(cluster.entities, {"entity_type": "A"}, 10)])
    assert recorder.gauges() == {LIVE: 13.0}
    table.append(4.0)
    assert recorder.gauges() == {LIVE: 17.0}
    remove()
    remove()
    assert recorder.gauges() == {LIVE: 7.0}


def test_a_gauge_source_that_fails_leaves_the_others(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Telemetry does not break what it looks at; the failure is logged."""

    def broken() -> list[tuple[Instrument, dict[str, str], float]]:
        raise RuntimeError("the table is gone")

    recorder.add_gauges(broken)
    recorder.add_gauges(lambda: [(cluster.messages_sent, {"entity_type": "A", "operation": "send"}, 1.0)])
    recorder.add_gauges(lambda: [(cluster.runners, {}, 1.0)])
    assert recorder.gauges() == {("cluster_runners", ()): 1.0}
    assert caplog.text.count("a gauge source failed") == 2


def test_a_gauge_source_may_count_while_it_is_read(recorder: Recorder) -> None:
    """Sources are read outside the lock: one that takes it does not wait for itself."""

    def source() -> list[tuple[Instrument, dict[str, str], float]]:
        with recorder.lock:
            return [(cluster.runners, {}, 1.0)]

    recorder.add_gauges(source)
    assert recorder.gauges() == {("cluster_runners", ()): 1.0}


def test_a_closed_recorder_stays_in_the_process_sum_and_its_gauges_go() -> None:
    """The process's totals never go down and count a closed recorder once, however often it is closed."""
    before = process_totals()
    recorder = Recorder()
    recorder.counter(cluster.messages_sent, entity_type="Closed", operation="send").value += 7
    recorder.add_gauges(lambda: [(cluster.entities, {"entity_type": "Closed"}, 1.0)])
    counted = {("cluster_messages_sent_total", ("Closed", "send")): 7}
    gauge = ("cluster_entities", ("Closed",))
    assert subtract(process_totals(), before) == counted
    assert process_gauges()[gauge] == 1.0
    recorder.close()
    recorder.close()
    assert subtract(process_totals(), before) == counted
    assert gauge not in process_gauges()


def test_recorders_closed_while_totals_are_taken_never_drop_or_double() -> None:
    """A collection that meets a close sees its counts exactly once."""
    key = ("cluster_entity_activations_total", ("Raced",))
    recorders = [Recorder() for _ in range(200)]
    for recorder in recorders:
        recorder.counter(cluster.entity_activations, entity_type="Raced").value += 1
    closing = threading.Thread(target=lambda: list(map(Recorder.close, recorders)))
    closing.start()
    seen = [process_totals()[key] for _ in range(100)]
    closing.join()
    assert {*seen, process_totals()[key]} == {200}


def test_the_processs_own_recorder_cannot_be_closed() -> None:
    """Cells bound to it by decorators are never left counting for nobody."""
    with pytest.raises(RuntimeError, match="as long as the process"):
        process_recorder().close()
    assert process_recorder() is process_recorder()


point_values: dict[str, st.SearchStrategy[PointValue]] = {
    "cluster_messages_sent_total": st.integers(0, 2**40),
    "cluster_entities": exact_floats,
    "cluster_entity_lifetime_seconds": st.tuples(
        st.lists(st.integers(0, 1000), min_size=9, max_size=9).map(tuple), exact_floats
    ),
}


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    """Totals with points of each kind."""
    points: dict[tuple[str, tuple[str, ...]], PointValue] = {}
    for name, values in point_values.items():
        for label in draw(st.sets(st.sampled_from("abc"))):
            points[(name, (label,))] = draw(values)
    return Totals(points)


@given(totals(), totals(), totals())
def test_merging_does_not_depend_on_order_or_grouping(a: Totals, b: Totals, c: Totals) -> None:
    """A sum of sums is the sum, in any order; nothing is the neutral part."""
    assert merge([a, b, c]) == merge([c, merge([b, a])]) == merge([Totals(), a, b, c])


@given(totals(), totals())
def test_subtracting_what_was_before_leaves_what_came_after(before: Totals, step: Totals) -> None:
    """earlier + difference = later for all that counts; a gauge keeps its later reading."""
    later = merge([before, step])
    difference = subtract(later, before)
    counted = Totals({key: value for key, value in before.items() if not isinstance(value, float)})
    assert merge([counted, difference]) == later


def test_subtracting_more_than_there_is_is_refused() -> None:
    """Totals of two sources, or the wrong way round, give no difference."""
    with pytest.raises(ValueError, match="hold more"):
        subtract(Totals({SENT: 1}), Totals({SENT: 2}))
    with pytest.raises(ValueError, match="lack"):
        subtract(Totals(), Totals({SENT: 2}))
    with pytest.raises(ValueError, match="hold more"):
        subtract(Totals({SENT: ((1, 0), 1.0)}), Totals({SENT: ((0, 1), 1.0)}))


@pytest.mark.parametrize("other", [1.0, ((1,), 1.0), ((1, 1, 1), 1.0)])
def test_points_of_different_kinds_do_not_add_up(other: PointValue) -> None:
    """A counter plus a gauge, or histograms with other edges, is an error and not a number."""
    mine: PointValue = ((1, 1), 2.0) if isinstance(other, tuple) and len(other[0]) > 1 else 1
    with pytest.raises(ValueError, match=r"kind|add up"):
        merge([Totals({SENT: mine}), Totals({SENT: other})])


@given(totals())
def test_totals_survive_pickle(value: Totals) -> None:
    """They travel between processes unchanged."""
    assert pickle.loads(pickle.dumps(value)) == value


def test_totals_are_small_to_send() -> None:
    """A hundred points of real labels take a few kilobytes: they leave each process once a second."""
    recorder = Recorder()
    for number in range(50):
        recorder.counter(cluster.messages_sent, entity_type=f"Type{number}", operation="send").value += 1
        recorder.histogram(
            cluster.message_latency, entity_type=f"Type{number}", operation="send", outcome="ok"
        ).record(0.1)
    size = len(pickle.dumps(recorder.totals(), protocol=5))
    recorder.close()
    assert size < 6000


def test_the_reference_of_these_tests_agrees_with_a_bisect() -> None:
    """The spelt-out bucket rule and the standard library's bisect name the same bucket."""
    for value in (0.0, 0.0001, 0.00011, 5.0, 5.1):
        assert reference_counts([value]).index(1) == bisect_left(LATENCY_EDGES_S, value)
