"""The user's own instruments: read by the SDK, added up on the node, and told under their own scope."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Sum
from opentelemetry.sdk.resources import Resource

from observe.exponential import ExponentialTotal
from observe.export import Exporting
from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.totals import PointKey, Totals
from observe.user_series import SeriesBound, Stream, attributes_of, is_user, key_of, stream_of
from tests.unit.observe.exporters import DELTA, FakeExporter, points
from tests.unit.observe.test_node_agent import SENT, counted

FUEL = Stream("app", "2", "", "{}", "fuel", "kg", "counter", (), "burnt")
ALTITUDE = Stream("app", "2", "", "{}", "altitude", "m", "gauge", (), "")
QUEUE = Stream("app", "2", "", "{}", "queue", "1", "updown", (), "")
WILD = Stream("app", "2", "", "{}", "wild", "s", "exponential", (), "")
DELAY = Stream("app", "2", "", "{}", "delay", "s", "histogram", (1.0, 5.0), "")


def told(process: str, sequence: int, instruments: Totals, *, final: bool = False) -> Report:
    """A report of a process that counts nothing but its user's."""
    return Report(process, sequence, 0.0, Totals(), Totals(), final, 1, instruments)


def series(stream: Stream, **attributes: Any) -> PointKey:
    """A series' key."""
    return key_of(stream, attributes)


def an_agent(path: str | Path = ":memory:") -> NodeAgent:
    """An agent at a fixed time."""
    return NodeAgent(Journal(path), lambda: 100.0)


def in_a_process(program: str) -> str:
    """What a fresh process prints: providers are set once in a process's life."""
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_key_reads_back_as_stream_and_attributes_with_their_types() -> None:
    """1, 1.0 and true are three values to OpenTelemetry, whatever Python thinks."""
    values: tuple[Any, ...] = (1, 1.0, True, "1", [1, 2], ["a"])
    keys = {series(FUEL, of=value) for value in values}
    assert len(keys) == len(values)
    for key in keys:
        assert (is_user(key), stream_of(key[0])) == (True, FUEL)
    assert [attributes_of(series(FUEL, of=value)) for value in values] == [{"of": value} for value in values]
    assert stream_of(series(DELAY)[0]) == DELAY
    assert not is_user(SENT)


def test_counts_of_all_processes_add_up_and_stay_and_are_no_metrics_of_the_cluster(tmp_path: Path) -> None:
    """A repeat counts once, an end takes nothing away, a restart neither; the cluster's own sum knows none of it."""
    agent = an_agent(tmp_path / "journal")
    fuel, delay = series(FUEL, kind="jet"), series(DELAY)
    agent.merge(told("p", 1, Totals({fuel: 3, delay: ((1, 0, 2), 21.0)})))
    agent.merge(told("p", 1, Totals({fuel: 99})))
    agent.merge(told("q", 1, Totals({fuel: ((), 0.5)})))
    agent.merge(told("q", 2, Totals({fuel: ((), 1.5)}), final=True))
    agent.ended("p")
    expected = Totals({fuel: ((), 4.5), delay: ((1, 0, 2), 21.0)})
    assert agent.reading("x").totals == expected
    assert an_agent(tmp_path / "journal").reading("x").totals == expected
    assert (agent.totals(), agent.snapshot().names()) == (Totals(), [])


def test_gauges_and_up_down_counters_are_those_of_living_processes() -> None:
    """Up-down counters are added up, of gauges the last one told stands; both go with their process."""
    agent = an_agent()
    altitude, queue = series(ALTITUDE), series(QUEUE)
    agent.merge(told("p", 1, Totals({altitude: 100.0, queue: 3.0})))
    agent.merge(told("q", 1, Totals({altitude: 200.0, queue: -1.0})))
    assert agent.reading("x").readings == {altitude: 200.0, queue: 2.0}
    agent.merge(told("p", 2, Totals({altitude: 110.0, queue: 3.0})))
    assert agent.reading("x").readings == {altitude: 110.0, queue: 2.0}
    agent.ended("p")
    assert agent.reading("x").readings == {altitude: 200.0, queue: -1.0}


def test_they_leave_under_their_own_scope_in_the_temporality_of_their_kind() -> None:
    """Counters and histograms as deltas where that is preferred, up-down counters never."""
    agent, exporter = an_agent(), FakeExporter(DELTA)
    way = Exporting(agent, "x", lambda: exporter, Resource({}), "1", interval_s=60.0)
    assert way.open_exporter()
    fuel, delay, queue = series(FUEL, kind="jet"), series(DELAY), series(QUEUE)
    for sequence in (1, 2):
        each = Totals({fuel: sequence * 5, delay: ((sequence, 0, 0), sequence / 2), queue: float(sequence)})
        agent.merge(told("p", sequence, each))
        way.export()
    [resource] = exporter.arrived[1].resource_metrics
    [scope] = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("app", "2")
    metrics = {metric.name: metric for metric in scope.metrics}
    assert (metrics["fuel"].unit, metrics["fuel"].description) == ("kg", "burnt")
    found = {name: metric.data for name, metric in metrics.items()}
    assert isinstance(found["fuel"], Sum) and found["fuel"].is_monotonic
    assert isinstance(found["queue"], Sum) and not found["queue"].is_monotonic
    assert isinstance(found["delay"], HistogramData)
    arrived = points(exporter.arrived[1])
    assert arrived["fuel", ("jet",)].value == 5
    assert (arrived["delay", ()].count, list(arrived["delay", ()].explicit_bounds)) == (1, [1.0, 5.0])
    assert arrived["queue", ()].value == 2.0


def test_series_are_bounded_and_what_is_beyond_adds_up(caplog: pytest.LogCaptureFixture) -> None:
    """An id as an attribute must not fill the node's memory; no count is lost by it, and one line says so."""
    bound = SeriesBound(max_series=2, max_streams=2)
    many = Totals({series(FUEL, tail=f"N{number}"): 1 for number in range(10)})
    admitted = bound.admitted(many)
    overflow = key_of(FUEL, {"otel.metric.overflow": True})
    assert admitted == {series(FUEL, tail="N0"): 1, series(FUEL, tail="N1"): 1, overflow: 8}
    assert bound.admitted(many) == admitted, "the same ones the next time"
    other, third = FUEL._replace(name="other"), FUEL._replace(name="third")
    assert bound.admitted(Totals({series(other): 1, series(third): 1})) == {series(other): 1}
    assert len(caplog.records) == 1


def test_who_knows_what_is_counted_already_bounds_alike() -> None:
    """After a restart of the agent a series goes on under its key."""
    before = SeriesBound(max_series=2)
    many = Totals({series(FUEL, tail=f"N{number}"): 1 for number in range(5)})
    admitted = before.admitted(many)
    assert SeriesBound(admitted, max_series=2).admitted(many) == admitted


def test_another_description_is_no_other_instrument() -> None:
    """New code on some processes must not make two metrics of one name."""
    bound = SeriesBound()
    first = bound.admitted(Totals({series(FUEL): 1}))
    assert bound.admitted(Totals({series(FUEL._replace(description="used up")): 2})).keys() == first.keys()


@pytest.mark.parametrize(
    "points_of_nobody",
    [
        Totals({SENT: 1}),
        Totals({series(FUEL): 1.5}),
        Totals({series(DELAY): ((1, 2), 3.0)}),
        Totals({series(DELAY): ExponentialTotal(1, 3.0)}),
        Totals({series(WILD): ((1, 2), 3.0)}),
        Totals({series(QUEUE): 1}),
        Totals({("[1,2]", ("{}",)): 1}),
        Totals({(series(FUEL)[0], ("not json",)): 1}),
        Totals({(series(FUEL)[0], ()): 1}),
    ],
    ids=repr,
)
def test_what_is_no_point_of_a_users_instrument_is_refused(points_of_nobody: Totals) -> None:
    """A malformed report spoils nothing."""
    agent = an_agent()
    with pytest.raises(ValueError, match=r"user's instrument|value of a"):
        agent.merge(told("p", 1, points_of_nobody))
    assert agent.merge(Report("p", 1, 0.0, counted(1)))
    assert agent.totals() == counted(1)


def test_every_kind_of_instrument_is_read() -> None:
    """Synchronous and observable ones, with their scope, unit, edges and attributes."""
    printed = in_a_process(
        """
        from observe import telemetry
        from observe.user_instruments import collected
        from observe.user_series import attributes_of, stream_of
        from opentelemetry import metrics
        from opentelemetry.metrics import Observation
        early = metrics.get_meter("app", "2").create_counter("early")
        telemetry.install()
        telemetry.install()
        early.add(2)
        meter = metrics.get_meter("app", "2", attributes={"of": "scope"})
        meter.create_counter("whole").add(3, {"on": True})
        meter.create_counter("broken").add(0.5)
        meter.create_up_down_counter("queue").add(-4)
        meter.create_gauge("altitude").set(9000)
        meter.create_histogram("delay", unit="s", explicit_bucket_boundaries_advisory=[1, 5]).record(3)
        told = [{"a": 7, "b": 1}, {"a": 6}]
        def seen(options):
            return [Observation(number, {"x": x}) for x, number in told[0].items()]
        meter.create_observable_counter("seen", [seen])
        for turn in range(2):
            for key, value in sorted(collected().items()):
                stream = stream_of(key[0])
                print(turn, stream.name, stream.kind, attributes_of(key), value, stream.bounds, stream.unit)
            del told[0]
        """
    )
    lines = sorted(printed.splitlines())
    assert [line[2:] for line in lines if line.startswith("0")] == [
        "altitude gauge {} 9000.0 () ",
        "broken counter {} ((), 0.5) () ",
        "delay histogram {} ((0, 1, 0), 3.0) (1.0, 5.0) s",
        "early counter {} 2 () ",
        "queue updown {} -4.0 () ",
        "seen counter {'x': 'a'} 7 () ",
        "seen counter {'x': 'b'} 1 () ",
        "whole counter {'on': True} 3 () ",
    ]
    assert [line[2:] for line in lines if line.startswith("1 seen")] == [
        "seen counter {'x': 'a'} 7 () ",
        "seen counter {'x': 'b'} 1 () ",
    ], "a count neither goes down nor away because a callback says so"


def test_an_exponential_histogram_is_read_as_it_is() -> None:
    """With its scale, zeros and buckets; cumulative, and never lower than it was."""
    printed = in_a_process(
        """
        from observe import telemetry
        from observe.user_instruments import collected
        from observe.user_series import attributes_of, stream_of
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
        telemetry.install(views=[View(instrument_name="wild", aggregation=ExponentialBucketHistogramAggregation())])
        wild = metrics.get_meter("app").create_histogram("wild", unit="s")
        for value in (1, 0, 2, 1.5):
            wild.record(value, {"x": 1})
        (key, total), = collected().items()
        stream = stream_of(key[0])
        print(stream.name, stream.kind, stream.unit, stream.bounds, attributes_of(key))
        print(total.scale, total.count, total.sum, total.zero, total.positive.offset, sum(total.positive.counts))
        """
    )
    assert printed.splitlines() == ["wild exponential s () {'x': 1}", "7 4 4.5 1 -1 3"]


def test_a_provider_of_the_users_own_is_left_alone_and_can_be_given_our_reader() -> None:
    """In an entity's process quietly; who asks for it aloud is told what to do."""
    printed = in_a_process(
        """
        from observe import telemetry, user_instruments
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        own = MeterProvider(shutdown_on_exit=False)
        metrics.set_meter_provider(own)
        user_instruments.offer()
        print(metrics.get_meter_provider() is own, len(user_instruments.collected()))
        try:
            telemetry.install()
        except RuntimeError as error:
            print("telemetry.reader()" in str(error))
        beside = MeterProvider([telemetry.reader()], shutdown_on_exit=False)
        beside.get_meter("app").create_counter("fuel").add(1)
        print(len(user_instruments.collected()))
        """
    )
    assert printed.split() == ["True", "0", "True", "1"]


def test_a_process_that_holds_entities_gets_a_provider_only_when_its_code_uses_opentelemetry() -> None:
    """And loads nothing of OpenTelemetry before."""
    printed = in_a_process(
        """
        import sys
        from observe import user_instruments
        user_instruments.offer()
        print(len(user_instruments.collected()), "opentelemetry" in sys.modules)
        from opentelemetry import metrics
        counter = metrics.get_meter("app").create_counter("fuel")
        user_instruments.offer_again()
        counter.add(5)
        print(*user_instruments.collected().values())
        """
    )
    assert printed.splitlines() == ["0 False", "5"]


def test_what_a_followed_message_counts_counts_from_its_first_import_on() -> None:
    """The provider stands before the handler runs, though nothing but the handler has asked for instruments."""
    printed = in_a_process(
        """
        import os
        os.environ["OTEL_TRACES_EXPORTER"] = "otlp"
        from cluster_app.following import follow_birth
        from observe import tracing, user_instruments
        user_instruments.offer()
        tracing.offer()
        follow_birth(f"00-{1:032x}-{1:016x}-01", "Shop", "x", "runner-1", None, lambda: 0.0)
        from opentelemetry import metrics
        metrics.get_meter("shop").create_counter("lookups").add(1)
        print(*user_instruments.collected().values())
        """
    )
    assert printed.split() == ["1"]
