"""Spans leave: each once, in the SDK's batches, by the standard variables; and nobody waits for a collector."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from observe import span_exports
from observe.report import Report
from observe.span_batch import SpanBatch, SpanPart, written
from observe.span_context import SAMPLED, SpanContext
from observe.span_export import SpanExporting
from observe.span_exports import SpanExports
from observe.spans import INTERNAL, Span
from observe.totals import Totals
from observe.trace_variables import read_trace_variables
from tests.unit.observe.test_exports import loggers_as_they_were

__all__ = ["loggers_as_they_were"]

NOW_NS = 10_000 * 1_000_000_000


class FakeExporter(SpanExporter):
    """Takes spans while its gate is open, and answers what it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.answer: Any = SpanExportResult.SUCCESS
        self.ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.gate.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is SpanExportResult.SUCCESS:
            self.names += [span.name for span in spans]
            self.batches.append(len(spans))
        result: SpanExportResult = self.answer
        return result

    def shutdown(self) -> None:
        self.ended = True

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def spans(first: int, count: int, end_ns: int = NOW_NS) -> tuple[Span, ...]:
    """Spans that are known by their names."""
    return tuple(
        Span(f"s{number}", INTERNAL, SpanContext(1, number + 1, SAMPLED), None, 0, end_ns)
        for number in range(first, first + count)
    )


def names(first: int, count: int) -> list[str]:
    """Their names."""
    return [f"s{number}" for number in range(first, first + count)]


@pytest.fixture
def exporter() -> FakeExporter:
    """What the spans go to."""
    return FakeExporter()


@pytest.fixture
def clock() -> list[float]:
    """Seconds, in the test's hands."""
    return [0.0]


@pytest.fixture
def exporting(exporter: FakeExporter, clock: list[float]) -> Iterator[SpanExporting]:
    """A way out that has begun."""
    made = SpanExporting(
        "fake",
        lambda: exporter,
        Resource.get_empty(),
        "1",
        queue=64,
        batch=16,
        clock=lambda: clock[0],
        now_ns=lambda: NOW_NS,
    )
    made.start()
    yield made
    exporter.gate.set()
    made.close(30)
    assert exporter.ended


def test_all_that_is_taken_arrives_in_order(exporting: SpanExporting, exporter: FakeExporter) -> None:
    """More than fit into the SDK's queue at once, none dropped there, in batches of the size that is set."""
    exporting.take(spans(0, 1000))
    assert exporting.flush(30)
    assert exporter.names == names(0, 1000)
    assert max(exporter.batches) == 16
    assert (exporting.status.dropped, exporting.status.failures) == (0, 0)


def test_taking_waits_for_no_collector(exporting: SpanExporting, exporter: FakeExporter) -> None:
    """While one hangs, spans wait; of too many the oldest are dropped and counted, the rest leaves when it is back."""
    exporter.gate.clear()
    exporting.take(spans(0, 1))
    assert not exporting.flush(0.0)
    assert exporter.asked.wait(30)
    for batch in range(5):
        exporting.take(spans(1 + batch * 10_000, 10_000))
    exporter.gate.set()
    assert exporting.flush(60)
    dropped = exporting.status.dropped
    assert len(exporter.names) + dropped == 50_001
    assert 29_000 < dropped <= 30_001 and exporter.names[-1] == "s50000"


def test_closing_sends_what_is_there(exporter: FakeExporter) -> None:
    """And repeating it does nothing."""
    made = SpanExporting("fake", lambda: exporter, Resource.get_empty(), "1", now_ns=lambda: NOW_NS)
    made.start()
    made.take(spans(0, 3))
    made.close(30)
    made.take(spans(3, 3))
    made.close(30)
    assert exporter.names == names(0, 3) and exporter.ended


def test_closing_waits_for_a_hanging_collector_no_longer_than_it_is_told(
    exporting: SpanExporting, exporter: FakeExporter
) -> None:
    """What is under way is left to itself."""
    exporter.gate.clear()
    exporting.take(spans(0, 3))
    exporting.close(0.05)
    assert exporter.names == []


def test_what_waited_too_long_is_dropped(exporting: SpanExporting, exporter: FakeExporter) -> None:
    """A span of ten minutes ago is of no use any more."""
    exporting.take([*spans(0, 2, end_ns=NOW_NS - 601 * 1_000_000_000), *spans(2, 1)])
    assert exporting.flush(30)
    assert (exporter.names, exporting.status.dropped) == (["s2"], 2)


@pytest.mark.parametrize("answer", [SpanExportResult.FAILURE, ConnectionError("refused")])
def test_failures_are_logged_once_a_minute_and_counted(
    exporting: SpanExporting,
    exporter: FakeExporter,
    clock: list[float],
    answer: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a collector did not take is lost; what comes later leaves, and the status says so."""
    exporter.answer = answer
    with caplog.at_level(logging.WARNING, "observe"):
        for first in range(3):
            exporting.take(spans(first, 1))
            assert exporting.flush(30)
        assert len(caplog.records) == 1 and "do not leave by fake" in caplog.text
        clock[0] = 61.0
        exporting.take(spans(3, 1))
        assert exporting.flush(30)
        assert len(caplog.records) == 2
    assert (exporting.status.failures, exporting.status.dropped) == (4, 4)
    assert exporting.status.error
    exporter.answer = SpanExportResult.SUCCESS
    exporting.take(spans(4, 1))
    assert exporting.flush(30)
    assert (exporter.names, exporting.status.failures, exporting.status.error) == (["s4"], 0, "")


def test_an_exporter_that_cannot_be_made_is_told_and_keeps_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line; what is taken is dropped; flushing and closing return."""

    def make() -> SpanExporter:
        raise ValueError("no such thing")

    with caplog.at_level(logging.ERROR, "observe"):
        made = SpanExporting("odd", make, Resource.get_empty(), "1")
        made.start()
        made.flush(30)
        made.take(spans(0, 10))
        made.close(30)
    assert [record.getMessage() for record in caplog.records] == [
        "spans do not leave by odd (traces): cannot be used: no such thing"
    ]
    assert made.status.error == "cannot be used: no such thing"


# -- reports


@pytest.fixture
def exports(exporter: FakeExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanExports]:
    """All ways out of a node, of which there is one."""
    monkeypatch.setattr(span_exports, "_made", lambda name: exporter)
    made = SpanExports("node", "session", "1", environ={"OTEL_TRACES_EXPORTER": "fake"})
    yield made
    made.close(30)


def report(process: str, sequence: int, first: int, count: int) -> Report:
    """A report with these spans, of which each is numbered as it is named, and a part by itself."""
    batch = SpanBatch(first, tuple(written([span]) for span in spans(first, count, time.time_ns())))
    return Report(process, sequence, 0.0, Totals(), spans=batch)


def test_a_span_that_is_told_again_leaves_once(exports: SpanExports, exporter: FakeExporter) -> None:
    """A process repeats what it does not know to have arrived, with what is new; another has numbers of its own."""
    for told in (
        report("a", 1, 0, 2),
        report("a", 2, 0, 3),
        report("b", 1, 0, 1),
        report("a", 3, 3, 0),
        report("a", 4, 2, 3),
    ):
        exports.take(told)
    exports.flush(30)
    assert exporter.names == ["s0", "s1", "s2", "s0", "s3", "s4"]
    assert [status.dropped for status in exports.status] == [0]


def test_what_a_process_dropped_is_counted(exports: SpanExports, exporter: FakeExporter) -> None:
    """By the numbers that are missing. A new agent does not know what came before it, and counts nothing."""
    exports.take(report("a", 1, 100, 1))
    exports.take(report("a", 2, 104, 2))
    exports.flush(30)
    assert [status.dropped for status in exports.status] == [3]
    assert exporter.names == ["s100", "s104", "s105"]


def test_a_span_that_cannot_be_read_here_keeps_no_other_one(
    exports: SpanExports, exporter: FakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted as dropped, and those before and behind it leave: in its part, and where no part can be read."""
    good = report("a", 1, 0, 2)
    first, last = good.spans.parts
    with_one_bad = SpanPart(
        3, pickle.dumps([*pickle.loads(first.data), b"no pickle", *pickle.loads(last.data)])
    )
    parts = first, SpanPart(2, b"no pickle"), with_one_bad, last
    exports.take(replace(good, spans=SpanBatch(0, parts)))
    exports.flush(30)
    assert exporter.names == ["s0", "s0", "s1", "s1"]
    assert [status.dropped for status in exports.status] == [3]
    assert len(caplog.records) == 2


def test_nothing_configured_means_nothing_is_loaded_or_kept() -> None:
    """Spans that come all the same are dropped at once."""
    exports = SpanExports("node", "session", "1", environ={})
    exports.take(report("a", 1, 0, 5))
    exports.flush(0)
    exports.close(0)
    assert exports.status == []


def test_an_exporter_that_is_not_installed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """With those that are."""
    with caplog.at_level(logging.ERROR, "observe"):
        exports = SpanExports("node", "session", "1", environ={"OTEL_TRACES_EXPORTER": "jaeger"})
        exports.close(30)
    assert "no exporter is called 'jaeger'" in caplog.text and "otlp_proto_grpc" in caplog.text


def test_variables_of_no_use_are_named_and_taken_away(caplog: pytest.LogCaptureFixture) -> None:
    """So the SDK, which reads the same ones, does not stumble over them."""
    environ = {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_BSP_MAX_QUEUE_SIZE": "many",
        "OTEL_BSP_SCHEDULE_DELAY": "0",
    }
    with caplog.at_level(logging.ERROR, "observe"):
        assert SpanExports("node", "session", "1", environ=environ).status == []
    assert environ == {"OTEL_TRACES_EXPORTER": "none"}
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in caplog.text and "OTEL_BSP_SCHEDULE_DELAY" in caplog.text


# -- variables


@pytest.mark.parametrize(
    ("environ", "exporters", "endpoint"),
    [
        ({}, (), None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, ("otlp_proto_grpc",), "http://c:1"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            ("otlp_proto_http",),
            "http://c:1/v1/traces",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://user:secret@t:2/x?key=1",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            ("otlp_proto_http",),
            "http://t:2/x",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp_proto_grpc",), "http://localhost:4317"),
        ({"OTEL_TRACES_EXPORTER": "console, otlp, otlp"}, ("console", "otlp_proto_grpc"), None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, (), None),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, (), None),
        (
            {"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "c:1"},
            ("otlp_proto_grpc",),
            "c:1",
        ),
    ],
)
def test_variables_say_where_spans_leave(
    environ: dict[str, str], exporters: tuple[str, ...], endpoint: str | None
) -> None:
    """The ones for traces before the common ones; without user, password and query where they are shown."""
    found = read_trace_variables(environ)
    assert found.exporters == exporters and found.unusable == {}
    if endpoint is not None:
        assert list(found.endpoints.values()) == [endpoint]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://c"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:port"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        ),
    ],
)
def test_what_is_of_no_use_is_named(environ: dict[str, str], name: str) -> None:
    """And a bad endpoint is not replaced by another place than was meant."""
    found = read_trace_variables(environ)
    assert list(found.unusable) == [name]
    assert found.exporters == (("otlp_proto_grpc",) if "PROTOCOL" in name else ())
    assert found.batch <= found.queue
