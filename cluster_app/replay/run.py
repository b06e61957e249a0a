"""One replay from its first row to its summary.

It decides the order of things: what is read of the cluster before and after, what is fed between, and what is
checked and written at the end. States asked for the check are in none of the figures: the latency is that of
the rows' messages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster_app.replay.feeder import IN_FLIGHT, Feeder
from cluster_app.replay.flight_messages import FlightMessages
from cluster_app.replay.flight_totals import count_flights
from cluster_app.replay.flights_file import FlightsFile
from cluster_app.replay.growth import Growth
from cluster_app.replay.port import ReplayCluster
from cluster_app.replay.progress import LiveEntities, ReplayProgress
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.states import State, check_readable, read_states, write_states
from cluster_app.replay.summary import Summary
from cluster_app.replay.target import type_name
from cluster_app.replay.verification import Address, differences
from cluster_app.replay.workload import Workload
from observe.metrics import MetricsSnapshot

__all__ = ["ReplayOptions", "replay", "replay_flights"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay, whatever the workload.

    :ivar in_flight: messages sent and not yet answered, at most.
    :ivar timeout_s: each message's deadline; None for the cluster's default.
    :ivar limit: rows to feed; None for all.
    :ivar state_out: where every fed entity's state is written; None for nowhere.
    """

    in_flight: int = IN_FLIGHT
    timeout_s: float | None = None
    limit: int | None = None
    state_out: Path | None = None


def replay(
    cluster: ReplayCluster, workload: Workload, rejects: Rejects, options: ReplayOptions, console: Console
) -> Summary:
    """Feed a workload whose totals nobody else knows.

    Raises Refusal when states are wanted and cannot be told.
    """
    if options.state_out is not None:
        for kind in workload.kinds:
            check_readable(kind)
    remember = options.state_out is not None
    summary, fed = _feed(
        cluster, workload, rejects, options, console, first=cluster.metrics(), remember=remember
    )
    if options.state_out is not None:
        wanted = ((kind, entity_id) for kind, ids in fed.items() for entity_id in sorted(ids))
        write_states(options.state_out, read_states(cluster, wanted))
    return summary


def replay_flights(
    cluster: ReplayCluster, file: FlightsFile, rejects: Rejects, options: ReplayOptions, console: Console
) -> Summary:
    """Feed the flights, then hold every aircraft's and airport's totals against the file's."""
    workload = FlightMessages(file, options.limit)
    kinds = {type_name(kind): kind for kind in workload.kinds}
    with file.open() as lines:
        expected = count_flights(lines, options.limit)
    first = cluster.metrics()
    before: dict[Address, dict[str, Any]] = {}
    # Only where some are left of an earlier replay: asking would bring to life those that are not there yet.
    if any(first.value("cluster_entities", entity_type=name) for name in kinds):
        named = [(kinds[name], entity_id) for name, entity_id in sorted(expected.entities)]
        before = {
            (type_name(kind), entity_id): state for kind, entity_id, state in read_states(cluster, named)
        }
    summary, fed = _feed(cluster, workload, rejects, options, console, first=first, remember=True)
    # Those that were fed, and those that should have been: a message to a wrong address shows at both ends.
    addresses = {(type_name(kind), entity_id) for kind, ids in fed.items() for entity_id in ids}
    wanted = [(kinds[name], entity_id) for name, entity_id in sorted(addresses | expected.entities)]
    states: list[State] = list(read_states(cluster, wanted))
    if options.state_out is not None:
        write_states(options.state_out, states)
    found = differences(
        expected, before, (((type_name(kind), entity_id), state) for kind, entity_id, state in states)
    )
    if rejects.count != expected.unusable:
        found.append(f"rejected rows: the replay has {rejects.count}, the file {expected.unusable}")
    return replace(summary, verified=not found, differences=found)


def _feed(
    cluster: ReplayCluster,
    workload: Workload,
    rejects: Rejects,
    options: ReplayOptions,
    console: Console,
    *,
    first: MetricsSnapshot,
    remember: bool,
) -> tuple[Summary, dict[type[Any], set[str]]]:
    types = tuple(type_name(kind) for kind in workload.kinds)
    before = cluster.metrics()
    live = LiveEntities(cluster, types)
    with ReplayProgress(console, live, workload.position, workload.size) as progress:
        feeder = Feeder(
            cluster,
            in_flight=options.in_flight,
            timeout_s=options.timeout_s,
            remember=remember,
            tick=progress.tick,
        )
        progress.watch(feeder)
        started_s = time.perf_counter()
        workload.feed(feeder, rejects, progress.row_done)
        feeder.finish()
        elapsed_s = time.perf_counter() - started_s
    after = cluster.metrics()
    lives = Growth(first, after, types)
    p50, p99 = Growth(before, after, types).latency_s(0.5, 0.99)
    summary = Summary(
        rows=progress.rows,
        rejected=rejects.count,
        messages=feeder.sent,
        replies=feeder.settled,
        errors=dict(sorted(feeder.errors.items())),
        entities=lives.live(),
        activations=lives.counts("cluster_entity_activations_total"),
        deactivations=lives.counts("cluster_entity_deactivations_total"),
        elapsed_s=elapsed_s,
        latency_s={"p50": p50, "p99": p99},
    )
    return summary, feeder.fed
