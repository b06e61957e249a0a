"""What instrumenting costs: one actor's calls by a plain handle, an instrumented one, and OpenTelemetry by hand.

It decides what each side does for its calls: the same pipelined calls, every value checked. By hand means what a
careful user writes: a counter and a histogram of the OpenTelemetry SDK for each call, the latency taken when Ray
says that the call is done, by the cheapest of Ray's ways to be told its outcome.

As a program it prints one JSON object: for each side a list with `calls`, `elapsed_s` and `cpu_s` (of this, the
calling process, all its threads) for each round. The sides take turns, and who begins changes from round to round.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cluster_app.bench.pipeline import WrongValue, pipelined
from cluster_app.bench.ray_instance import fresh_ray
from observe.instruments import LATENCY_EDGES_S
from observe.metrics import instrument, snapshot

__all__ = ["SIDES", "Round", "main", "measure"]

WARM_UP = 500  # calls


class Round(NamedTuple):
    """One side's calls in one round.

    :ivar calls: made, answered and checked.
    :ivar elapsed_s: from the first call to the last checked value.
    :ivar cpu_s: processor time of the calling process meanwhile.
    """

    calls: int
    elapsed_s: float
    cpu_s: float


class Sum:
    """Adds up, and returns the sum."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value


class OpenTelemetryByHand:
    """A counter and a histogram for each call, as one writes it without this package."""

    def __init__(self) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import (
            MetricExporter,
            MetricExportResult,
            MetricsData,
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

        class Nowhere(MetricExporter):
            """Takes what is collected, once a minute as is the SDK's default, and keeps the last."""

            def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> Any:
                self.last = metrics_data
                return MetricExportResult.SUCCESS

            def force_flush(self, timeout_millis: float = 0) -> bool:
                return True

            def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
                """Nothing to end."""

        view = View(
            instrument_name="message_latency", aggregation=ExplicitBucketHistogramAggregation(LATENCY_EDGES_S)
        )
        self._provider = MeterProvider([PeriodicExportingMetricReader(Nowhere())], views=[view])
        meter = self._provider.get_meter("by hand")
        self._sent = meter.create_counter("messages_sent", unit="{message}")
        self._latency = meter.create_histogram("message_latency", unit="s")
        self._errors = meter.create_counter("errors", unit="{error}")

    def call(self, actor: Any) -> Any:
        """Call, count, and time until Ray tells of the answer."""
        self._sent.add(1, {"entity_type": "Sum", "operation": "send"})
        started_s = time.perf_counter()
        reference = actor.increment.remote(1)

        def done(value: object) -> None:
            failed = isinstance(value, BaseException)
            outcome = "error" if failed else "ok"
            labels = {"entity_type": "Sum", "operation": "send", "outcome": outcome}
            self._latency.record(time.perf_counter() - started_s, labels)
            if failed:
                self._errors.add(1, {"entity_type": "Sum", "operation": "send", "type": type(value).__name__})

        reference._on_completed(done)
        return reference


def _plain(actor: Any) -> Callable[[int], Any]:
    return lambda _: actor.increment.remote(1)


def _instrumented(actor: Any) -> Callable[[int], Any]:
    wrapped = instrument(actor)
    return lambda _: wrapped.increment.remote(1)


def _opentelemetry(actor: Any) -> Callable[[int], Any]:
    by_hand = OpenTelemetryByHand()
    return lambda _: by_hand.call(actor)


SIDES: dict[str, Callable[[Any], Callable[[int], Any]]] = {
    "plain": _plain,
    "instrumented": _instrumented,
    "opentelemetry": _opentelemetry,
}
"""By name: takes an actor's handle, returns what makes one call."""


def measure(sides: Sequence[str], *, calls: int, in_flight: int, rounds: int) -> dict[str, list[Round]]:
    """Let the sides take turns with an actor each. Needs a Ray to be there. Raises WrongValue."""
    import ray

    def values(references: list[Any]) -> Sequence[Any]:
        return ray.get(references)

    before = snapshot().value("cluster_message_latency_seconds", entity_type="Sum", outcome="ok")
    actors = {side: ray.remote(Sum).options(num_cpus=0).remote() for side in sides}
    sends = {side: SIDES[side](actor) for side, actor in actors.items()}
    done = dict.fromkeys(sides, 0)

    def run(side: str, count: int) -> Round:
        first = done[side] + 1
        done[side] += count
        cpu_s = time.process_time()
        pace = pipelined(sends[side], values, lambda n: n + first, messages=count, in_flight=in_flight)
        return Round(count, pace.elapsed_s, time.process_time() - cpu_s)

    for side in sides:
        run(side, WARM_UP)
    measured: dict[str, list[Round]] = {side: [] for side in sides}
    for number in range(rounds):
        turn = number % len(sides)
        for side in (*sides[turn:], *sides[:turn]):
            measured[side].append(run(side, calls))
    if "instrumented" in sides:
        counted = (
            snapshot().value("cluster_message_latency_seconds", entity_type="Sum", outcome="ok") - before
        )
        if counted != done["instrumented"]:
            raise WrongValue(f"{counted:.0f} latencies after {done['instrumented']} instrumented calls")
    return measured


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray: calls, in_flight, rounds, maybe sides."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        measured = measure(
            asked.get("sides", list(SIDES)),
            calls=asked["calls"],
            in_flight=asked["in_flight"],
            rounds=asked["rounds"],
        )
    print(json.dumps({side: [each._asdict() for each in rounds] for side, rounds in measured.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
