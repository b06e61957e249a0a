"""One way out of a node: exact sums at the other end, whatever fails, repeats, restarts and ends on the way."""

from __future__ import annotations

import itertools
import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    MetricExportResult,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource

from observe.export import Exporting
from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.totals import Totals
from observe.user_series import Stream, key_of
from tests.unit.observe.exporters import DELTA, FakeExporter, points
from tests.unit.observe.test_node_agent import LIFETIME, LIVE, SENT, report

RESOURCE = Resource({"service.instance.id": "node-1"})
FAILURE, SUCCESS = MetricExportResult.FAILURE, MetricExportResult.SUCCESS


class Clock:
    """Unix time and the time between log lines, in the test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def exporting(
    agent: NodeAgent, exporter: FakeExporter, clock: Clock | None = None, **options: Any
) -> Exporting:
    """A way out that is not started: the test exports."""
    made = Exporting(
        agent,
        "fake",
        lambda: exporter,
        RESOURCE,
        "1.0",
        interval_s=3600.0,
        clock=clock or Clock(),
        **options,
    )
    assert made.open_exporter()
    return made


def agent_at(clock: Clock, path: str | Path = ":memory:") -> NodeAgent:
    """An agent that lives in the test's time."""
    return NodeAgent(Journal(path), clock)


def test_everything_leaves_with_its_kind_unit_times_and_resource() -> None:
    """A counter, a histogram with its own edges and a gauge, since the node began."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter()
    way = exporting(agent, exporter, clock)
    agent.merge(report("p", 1, 8))
    clock.now = 1060.0
    assert way.export()
    [data] = exporter.arrived
    [resource] = data.resource_metrics
    assert resource.resource is RESOURCE
    [scope] = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("cluster_app", "1.0")
    metrics = {metric.name: metric for metric in scope.metrics}
    sent = metrics["cluster_messages_sent_total"]
    assert isinstance(sent.data, Sum)
    assert (sent.unit, sent.data.is_monotonic) == ("{message}", True)
    assert sent.data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    [point] = sent.data.data_points
    assert (point.value, point.attributes) == (8, {"entity_type": "A", "operation": "send"})
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1000 * 10**9, 1060 * 10**9)
    lifetime = metrics["cluster_entity_lifetime_seconds"].data
    assert isinstance(lifetime, HistogramData)
    [histogram] = lifetime.data_points
    assert (histogram.count, histogram.sum, histogram.bucket_counts) == (9, 2.0, [8, 0, 0, 0, 0, 0, 0, 0, 1])
    assert list(histogram.explicit_bounds) == [1, 5, 30, 60, 300, 600, 1800, 3600]
    live = metrics["cluster_entities"].data
    assert isinstance(live, Gauge)
    assert [gauge.value for gauge in live.data_points] == [8.0]


def test_cumulative_values_are_exact_after_an_outage() -> None:
    """What failed is not lost: the next one that arrives tells all of it, from the same start."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter()
    way = exporting(agent, exporter, clock)
    exporter.answer, exporter.lost = FAILURE, True
    for second in range(1, 6):
        agent.merge(report("p", second, second))
        clock.now += 1
        assert not way.export()
    exporter.answer, exporter.lost = SUCCESS, False
    assert way.export()
    point = points(exporter.arrived[-1])[SENT]
    assert (point.value, point.start_time_unix_nano) == (5, 1000 * 10**9)


def test_a_delta_covers_the_whole_gap_and_begins_where_the_last_one_ended() -> None:
    """Only what has changed since the last acknowledged export, up- and downtime of the collector included."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter(DELTA)
    way = exporting(agent, exporter, clock)
    agent.merge(report("p", 1, 10))
    clock.now = 1010.0
    way.export()
    agent.merge(report("p", 2, 15))
    clock.now = 1020.0
    exporter.answer, exporter.lost = FAILURE, True
    way.export()
    agent.merge(report("p", 3, 16))
    clock.now = 1030.0
    exporter.answer, exporter.lost = SUCCESS, False
    way.export()
    clock.now = 1040.0
    way.export()
    first, second, third = (points(data) for data in exporter.arrived)
    assert (first[SENT].value, second[SENT].value) == (10, 6)
    assert (second[LIFETIME].count, second[LIFETIME].sum) == (6, 1.5)
    assert (first[SENT].start_time_unix_nano, first[SENT].time_unix_nano) == (1000 * 10**9, 1010 * 10**9)
    assert (second[SENT].start_time_unix_nano, second[SENT].time_unix_nano) == (1010 * 10**9, 1030 * 10**9)
    assert set(third) == {LIVE}, "a counter that stands still has no delta; a gauge is told as it is"


def test_an_agent_that_takes_over_goes_on_where_the_last_one_was_acknowledged(tmp_path: Path) -> None:
    """Killed between two exports: neither lost nor told twice, and cumulative starts where the node did."""
    clock, path = Clock(), tmp_path / "journal"
    exporter = FakeExporter(DELTA)
    first = agent_at(clock, path)
    way = exporting(first, exporter, clock)
    first.merge(report("p", 1, 10))
    clock.now = 1010.0
    way.export()
    first.merge(report("p", 2, 13))  # acknowledged to the process, not exported: then it is killed
    clock.now = 2000.0
    second = agent_at(clock, path)
    exporting(second, exporter, clock).export()
    point = points(exporter.arrived[-1])[SENT]
    assert (point.value, point.start_time_unix_nano) == (3, 1010 * 10**9)
    whole = FakeExporter()
    exporting(second, whole, clock).export()
    assert points(whole.arrived[-1])[SENT].start_time_unix_nano == 1000 * 10**9


def test_two_exporters_have_marks_of_their_own() -> None:
    """What one has told is still to be told by the other."""
    clock = Clock()
    agent = agent_at(clock)
    one, other = FakeExporter(DELTA), FakeExporter(DELTA)
    agent.merge(report("p", 1, 10))
    exporting(agent, one, clock).export()
    late = Exporting(agent, "late", lambda: other, RESOURCE, "1.0", interval_s=60.0, clock=clock)
    assert late.open_exporter()
    late.export()
    assert points(other.arrived[0])[SENT].value == 10


def test_an_account_that_is_taken_over_is_told_once(tmp_path: Path) -> None:
    """The node that was given up has told most of it under its own name; its heir tells only what is left."""
    clock = Clock()
    there, exporter = agent_at(clock, tmp_path / "there"), FakeExporter()
    there.merge(report("p", 1, 10))
    exporting(there, exporter, clock).export()
    there.merge(report("p", 2, 12, final=True))
    account = there.hand_over("node-1")
    assert account is not None
    for preferred in (None, DELTA):
        head, at_head = agent_at(clock), FakeExporter(preferred)
        way = exporting(head, at_head, clock)
        head.merge(report("q", 1, 5))
        way.export()
        assert head.merge(account)
        assert not head.merge(account)
        way.export()
        told = [points(data)[SENT].value for data in at_head.arrived]
        assert told == ([5, 7] if preferred is None else [5, 2])
        assert head.totals()[SENT] == 17, "the cluster's own sum has all of it"


def test_a_sum_of_floats_never_goes_down_when_parts_are_added_in_another_order() -> None:
    """Else Prometheus would take the last bit for a restart and count everything again."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter()
    way = exporting(agent, exporter, clock)

    def lived(process: str, sequence: int, seconds: float, *, final: bool = False) -> Report:
        totals = Totals({LIFETIME: ((1, 0, 0, 0, 0, 0, 0, 0, 0), seconds)})
        return Report(process, sequence, 0.0, totals, final=final)

    sums: list[float] = []
    for process, seconds in (("a", 0.1), ("b", 0.7), ("c", 0.2), ("d", 0.3)):
        agent.merge(lived(process, 1, seconds))
    way.export()
    for process, seconds in (("d", 0.3), ("b", 0.7), ("c", 0.2), ("a", 0.1)):
        agent.merge(lived(process, 2, seconds, final=True))
        way.export()
        sums.append(points(exporter.arrived[-1])[LIFETIME].sum)
    assert sums == sorted(sums)
    assert sums[-1] == pytest.approx(1.3)


def test_a_gauge_whose_last_process_has_gone_is_told_as_nought_once() -> None:
    """A dashboard must not go on showing what the last export happened to say."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter()
    way = exporting(agent, exporter, clock)
    agent.merge(report("p", 1, 10))
    way.export()
    agent.merge(report("p", 2, 10, final=True))
    exporter.answer = FAILURE
    way.export()
    exporter.answer = SUCCESS
    way.export()
    way.export()
    assert [points(data)[LIVE].value if LIVE in points(data) else None for data in exporter.arrived] == [
        10.0,
        0.0,
        0.0,
        None,
    ]


def test_counts_that_went_back_are_told_once_and_from_there_on(caplog: pytest.LogCaptureFixture) -> None:
    """A lost account has no true difference; what comes after it has."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter(DELTA)
    way = exporting(agent, exporter, clock)
    agent.merge(report("p", 1, 10))
    way.export()
    agent.merge(report("p", 2, 4))
    assert not way.export()
    assert way.status.dropped == 1
    agent.merge(report("p", 3, 6))
    assert way.export()
    assert points(exporter.arrived[-1])[SENT].value == 2
    assert len(caplog.records) == 1


def test_a_failure_is_logged_once_a_minute_with_its_reason_and_told_by_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outage of an hour is sixty lines, not thousands."""
    clock = Clock()
    agent, exporter = agent_at(clock), FakeExporter()
    reasons = iter(["connection refused"] + [None] * 500)
    way = exporting(agent, exporter, clock, endpoint="http://collector", reason=lambda: next(reasons))
    agent.merge(report("p", 1, 1))
    exporter.answer = FAILURE
    for _ in range(200):
        way.export()
        clock.now += 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    assert "http://collector: connection refused (failed exports in a row: 1)" in caplog.messages[0]
    assert "failed exports in a row: 61" in caplog.messages[1]
    status = way.status
    assert (status.failures, status.error, status.last_success_unix_s) == (200, "connection refused", None)
    exporter.answer = SUCCESS
    way.export()
    status = way.status
    assert (status.failures, status.error, status.exports) == (0, "", 1)
    assert status.last_success_unix_s == clock.now


def test_an_exporter_that_raises_has_failed() -> None:
    """Telemetry breaks nothing, and its thread goes on."""

    def broken() -> MetricExportResult:
        raise OSError("no route")

    agent, exporter = agent_at(Clock()), FakeExporter()
    way = exporting(agent, exporter)
    agent.merge(report("p", 1, 1))
    exporter.answer = broken
    assert not way.export()
    assert way.status.error == "OSError: no route"


def test_an_exporter_that_cannot_be_made_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever flushes or closes does not wait for it."""

    def unmade() -> FakeExporter:
        raise ValueError("OTEL_METRICS_EXPORTER: no exporter is called 'x'")

    way = Exporting(agent_at(Clock()), "x", unmade, RESOURCE, "1", interval_s=60.0)
    way.start()
    assert not way.flush(30.0)
    way.close(30.0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "OTEL_METRICS_EXPORTER" in way.status.error


def test_the_thread_exports_when_asked_and_for_the_last_time_at_its_end() -> None:
    """Between its intervals it waits; its end leaves nothing untold."""
    agent, exporter = agent_at(Clock()), FakeExporter()
    way = Exporting(agent, "fake", lambda: exporter, RESOURCE, "1", interval_s=3600.0)
    way.start()
    agent.merge(report("p", 1, 1))
    assert way.flush(30.0)
    agent.merge(report("p", 2, 2))
    way.close(30.0)
    assert [points(data)[SENT].value for data in exporter.arrived] == [1, 2]
    assert exporter.closed
    assert not way.flush(0.0)


def test_the_thread_exports_by_itself() -> None:
    """Every interval, with nobody asking."""
    agent, exporter, third = agent_at(Clock()), FakeExporter(), threading.Event()

    def answer() -> MetricExportResult:
        if len(exporter.arrived) == 3:
            third.set()
        return SUCCESS

    exporter.answer = answer
    agent.merge(report("p", 1, 1))
    way = Exporting(agent, "fake", lambda: exporter, RESOURCE, "1", interval_s=0.001)
    way.start()
    assert third.wait(30.0)
    way.close(30.0)


def test_an_end_does_not_wait_for_a_collector_that_does_not_answer() -> None:
    """What was under way is not acknowledged, whatever comes of it: its outcome is unknown."""
    agent, exporter, asked, answered = agent_at(Clock()), FakeExporter(), threading.Event(), threading.Event()

    def stuck() -> MetricExportResult:
        asked.set()
        answered.wait(30.0)
        return SUCCESS

    exporter.answer = stuck
    agent.merge(report("p", 1, 1))
    way = Exporting(agent, "fake", lambda: exporter, RESOURCE, "1", interval_s=3600.0)
    way.start()
    way.begin_to_close()
    assert asked.wait(30.0)
    way.close(0.0)
    assert exporter.closed
    answered.set()
    way._thread.join(30.0)
    assert agent.reading("fake").told == Totals()


USER = key_of(Stream("app", "", "", "{}", "fuel", "kg", "counter", (), ""), {"kind": "jet"})
PROCESSES: tuple[str, ...] = ("p", "q", "r")


class AnyInterleaving(RuleBasedStateMachine):
    """Reports, exports of every outcome, ends and agent restarts in any order; one collector that adds deltas up."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(PROCESSES, 0)
        self.sequence = dict.fromkeys(PROCESSES, 0)
        self.gone: set[str] = set()
        self.unknown = 0

    @initialize()
    def start(self) -> None:
        """One journal, which outlives agents; one collector for each temporality."""
        self.clock = Clock()
        self.journal = Journal(":memory:")
        self.cumulative, self.delta = FakeExporter(), FakeExporter(DELTA)
        self.restart()

    @rule()
    def restart(self) -> None:
        """The agent is killed; another one takes over the journal."""
        self.agent = NodeAgent(self.journal, self.clock)
        self.ways = [
            Exporting(self.agent, name, partial(self._exporter, name), RESOURCE, "1", interval_s=1.0)
            for name in ("cumulative", "delta")
        ]
        assert all(way.open_exporter() for way in self.ways)

    def _exporter(self, name: str) -> FakeExporter:
        return self.delta if name == "delta" else self.cumulative

    @rule(process=st.sampled_from(PROCESSES), more=st.integers(0, 20), final=st.booleans())
    def report(self, process: str, more: int, final: bool) -> None:
        """A process tells what it has counted, its user's instruments included; perhaps for the last time."""
        if process in self.gone:
            return
        self.counts[process] += more
        self.sequence[process] += 1
        told = report(process, self.sequence[process], self.counts[process], final=final)
        instruments = Totals({USER: ((), self.counts[process] / 2)})
        self.agent.merge(
            Report(told.process, told.sequence, 0.0, told.totals, told.gauges, final, 1, instruments)
        )
        if final:
            self.gone.add(process)

    @rule(process=st.sampled_from(PROCESSES))
    def end(self, process: str) -> None:
        """The node sees it end, without a last word."""
        self.gone.add(process)
        self.agent.ended(process)

    @rule(outcome=st.sampled_from(["arrives", "lost", "killed before it is sent"]))
    def export(self, outcome: str) -> None:
        """Both export, and learn the truth about it."""
        self.clock.now += 1
        for way, exporter in zip(self.ways, (self.cumulative, self.delta), strict=True):
            exporter.lost = outcome != "arrives"
            exporter.answer = FAILURE if exporter.lost else SUCCESS
            before = exporter.asked
            done = way.export()
            assert done is (outcome == "arrives" or exporter.asked == before), (
                "with nothing to tell it is done"
            )
        if outcome.startswith("killed"):
            self.restart()

    @invariant()
    def what_arrived_and_what_is_still_to_come_is_what_was_counted(self) -> None:
        """Deltas never overlap and leave no gap; the last cumulative value and the sum of deltas agree."""
        if not hasattr(self, "agent"):
            return
        deltas = [points(data) for data in self.delta.arrived]
        last = points(self.cumulative.arrived[-1]) if self.cumulative.arrived else {}
        for key in (SENT, ("fuel", ("jet",))):
            told = sum(data[key].value for data in deltas if key in data)
            assert told == (last[key].value if key in last else 0)
        untold = self.agent.reading("delta").untold()
        counted = sum(self.counts.values())
        rest: Any = untold.get(SENT, 0)
        assert rest + sum(data[SENT].value for data in deltas if SENT in data) == counted
        spans = [data[SENT] for data in deltas if SENT in data]
        assert all(
            before.time_unix_nano <= after.start_time_unix_nano for before, after in itertools.pairwise(spans)
        )
        starts = {
            point.start_time_unix_nano
            for data in self.cumulative.arrived
            for point in [points(data).get(SENT)]
            if point
        }
        assert starts <= {1000 * 10**9}


AnyInterleaving.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_interleaving_arrives_exactly = AnyInterleaving.TestCase


def test_an_unknown_outcome_is_told_again_with_delta_and_harms_nothing_cumulative() -> None:
    """At least once: it had arrived, but nobody knew. README says so."""
    clock = Clock()
    agent = agent_at(clock)
    delta, cumulative = FakeExporter(DELTA), FakeExporter()
    agent.merge(report("p", 1, 10))
    for exporter in (delta, cumulative):
        way = exporting(agent, exporter, clock)
        exporter.answer = FAILURE  # it arrived all the same
        way.export()
        exporter.answer = SUCCESS
        way.export()
        agent._marks.clear()
    assert [points(data)[SENT].value for data in delta.arrived] == [10, 10]
    assert [points(data)[SENT].value for data in cumulative.arrived] == [10, 10]
