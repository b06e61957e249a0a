"""The user's own spans: a provider is set where entities live and spans leave, and never in place of the user's.

A process can have one provider in its life, so each of these is a process of its own.
"""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import sys
from observe import telemetry, tracing
from observe.span_batch import read
from observe.traces import process_traces

def left():
    return [span.name for part in process_traces.spans.waiting().parts for span in read(part)]
"""


def run(program: str, **environ: str) -> list[str]:
    """What a program prints, line by line."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + program],
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environ},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_asked_for_it_keeps_the_spans_of_tracers_made_before_and_after() -> None:
    """Once is enough, and nothing need be configured for it."""
    assert run("""
from opentelemetry import trace
early = trace.get_tracer("early")
telemetry.install(); telemetry.install()
with early.start_as_current_span("outer"), trace.get_tracer("late").start_as_current_span("inner"):
    pass
print(*left())
""") == ["inner", "outer"]


def test_where_entities_live_it_waits_for_code_that_uses_traces() -> None:
    """Nothing is loaded before; code that comes to use them later is found by the next report."""
    assert run(
        """
tracing.offer(); tracing.offer_again()
print("opentelemetry.sdk" in sys.modules)
from opentelemetry import trace
tracer = trace.get_tracer("t")
tracing.offer_again()
with tracer.start_as_current_span("x"):
    pass
print(*left())
""",
        OTEL_TRACES_EXPORTER="otlp",
    ) == ["False", "x"]


def test_where_no_spans_leave_none_are_kept() -> None:
    """They would go nowhere, and the SDK is not loaded for that."""
    assert run("""
from opentelemetry import trace
tracing.offer()
with trace.get_tracer("t").start_as_current_span("x"):
    pass
print(len(left()), "opentelemetry.sdk" in sys.modules)
""") == ["0", "False"]


def test_a_provider_of_the_users_own_stays() -> None:
    """It can be given our processor."""
    assert run(
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider()
trace.set_tracer_provider(own)
tracing.offer(); telemetry.install()
print(trace.get_tracer_provider() is own)
with trace.get_tracer("t").start_as_current_span("before"):
    pass
own.add_span_processor(telemetry.span_processor())
with trace.get_tracer("t").start_as_current_span("after"):
    pass
print(*left())
""",
        OTEL_TRACES_EXPORTER="otlp",
    ) == ["True", "after"]


def test_sampling_is_by_the_standard_variables() -> None:
    """As with any provider of the SDK."""
    assert run(
        """
from opentelemetry import trace
tracing.offer()
with trace.get_tracer("t").start_as_current_span("x"):
    pass
print(len(left()))
""",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_TRACES_SAMPLER="always_off",
    ) == ["0"]


def test_switched_off_it_does_nothing() -> None:
    """`OTEL_SDK_DISABLED` holds for asking, too."""
    assert run("print(tracing.install())", OTEL_SDK_DISABLED="true") == ["False"]
