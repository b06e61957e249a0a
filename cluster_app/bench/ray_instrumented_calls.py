"""What instrumenting costs: one actor's calls by a plain handle, an instrumented one, and OpenTelemetry by hand.

It decides what each side does for its calls: the same pipelined calls, every value checked. By hand means what a
careful user writes, a counter and a histogram of the OpenTelemetry SDK for each call, in one of two ways. On
completion: the latency is taken when Ray says that the call is done, whoever fetches its value and when, and errors
are counted; for that Ray fetches and decodes each value a second time. At get: the latency is taken once the value has
been fetched, which costs the least; it tells nothing of when the call was done, and nothing of an error until somebody
fetches it.

As a program it prints one JSON object: for each side a list with `messages`, `elapsed_s` and `cpu_s` (of this, the
calling process, all its threads) for each round. The sides take turns, and who begins changes from round to round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from cluster_app.bench.ray_hand_instrumented import AtGet
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.sums import Sum, sum_after
from observe.instruments import LATENCY_EDGES_S
from observe.metrics import instrument, snapshot

__all__ = ["SIDES", "Calls", "OnCompletion", "measure"]

WARM_UP = 500  # calls


class Calls(NamedTuple):
    """How a side makes its calls.

    :ivar send: makes call number n; what stands for it.
    :ivar values: waits for some calls; their values.
    :ivar end: takes the number of calls made, and raises WrongValue unless all were counted.
    """

    send: Callable[[int], Any]
    values: Callable[[list[Any]], Sequence[Any]]
    end: Callable[[int], None]


class OnCompletion:
    """A counter and a histogram for each call, by what Ray tells of its completion."""

    def __init__(self) -> None:
        view = View(
            instrument_name="message_latency", aggregation=ExplicitBucketHistogramAggregation(LATENCY_EDGES_S)
        )
        self._provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False, views=[view])
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


def _get(references: list[Any]) -> Sequence[Any]:
    import ray

    return ray.get(references)


def _uncounted(calls: int) -> None:
    """Nobody counts, or not all are counted by the time that the last value is there."""


def _plain(actor: Any) -> Calls:
    return Calls(lambda _: actor.increment.remote(1), _get, _uncounted)


def _instrumented(actor: Any) -> Calls:
    before, wrapped = _latencies(), instrument(actor)

    def end(calls: int) -> None:
        counted = _latencies() - before
        if counted != calls:
            raise WrongValue(f"{counted:.0f} latencies after {calls} instrumented calls")

    return Calls(lambda _: wrapped.increment.remote(1), _get, end)


def _latencies() -> float:
    return snapshot().value("cluster_message_latency_seconds", entity_type="Sum", outcome="ok")


def _on_completion(actor: Any) -> Calls:
    by_hand = OnCompletion()
    return Calls(lambda _: by_hand.call(actor), _get, _uncounted)


def _at_get(actor: Any) -> Calls:
    by_hand = AtGet(actor.increment.remote, _get)
    return Calls(by_hand.send, by_hand.values, by_hand.end)


SIDES: dict[str, Callable[[Any], Calls]] = {
    "plain": _plain,
    "instrumented": _instrumented,
    "by hand, on completion": _on_completion,
    "by hand, at get": _at_get,
}
"""By name: takes an actor's handle, returns how its calls are made."""


def measure(calls: int, in_flight: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let the sides take turns with an actor each. Needs a Ray to be there. Raises WrongValue."""
    import ray

    kind: Any = ray.remote(Sum)
    sides = {name: side(kind.options(num_cpus=0).remote()) for name, side in SIDES.items()}
    done = dict.fromkeys(sides, 0)

    def run(name: str, count: int) -> Pace:
        before, side = done[name], sides[name]
        done[name] += count
        return pipelined(
            side.send, side.values, partial(sum_after, before), messages=count, in_flight=in_flight
        )

    names = list(sides)
    for name in names:
        run(name, WARM_UP)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            measured[name].append(run(name, calls)._asdict())
    for name, side in sides.items():
        side.end(done[name])
    return measured


if __name__ == "__main__":
    run_side(measure)
