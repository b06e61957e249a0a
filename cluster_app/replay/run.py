"""One replay from its first row to its summary.

It decides the order of things: what is read of the cluster before and after, what is fed between, and what is
checked and written at the end. States are read without messages, so they are in none of the figures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cluster_app.replay.feeder import IN_FLIGHT, Feeder
from cluster_app.replay.flight_messages import FlightMessages
from cluster_app.replay.flight_totals import count_flights
from cluster_app.replay.flights_file import FlightsFile
from cluster_app.replay.growth import Growth
from cluster_app.replay.port import ReplayCluster
from cluster_app.replay.progress import LiveEntities, ReplayProgress
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.states import StatesFile, fed_states
from cluster_app.replay.summary import Summary
from cluster_app.replay.target import type_name
from cluster_app.replay.verification import differences
from cluster_app.replay.workload import Workload
from entities import Entity

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
    """Feed a workload whose totals nobody else knows. Raises Refusal when the states cannot be written."""
    states = StatesFile(options.state_out) if options.state_out is not None else None
    summary, fed = _feed(cluster, workload, rejects, options, console, remember=states is not None)
    if states is not None:
        total = sum(map(len, fed.values()))
        gone = total - states.write(fed_states(cluster, fed))
        if gone:
            console.print(
                f"{gone:,} of the {total:,} entities fed are gone, and their states", highlight=False
            )
    return summary


def replay_flights(
    cluster: ReplayCluster, file: FlightsFile, rejects: Rejects, options: ReplayOptions, console: Console
) -> Summary:
    """Feed the flights, then hold every aircraft's and airport's totals against the file's."""
    states_file = StatesFile(options.state_out) if options.state_out is not None else None
    workload = FlightMessages(file, options.limit)
    before = {
        (type_name(kind), entity_id): state
        for kind in workload.kinds
        for entity_id, state in cluster.states(kind)
    }
    summary, fed = _feed(cluster, workload, rejects, options, console, remember=True)
    console.print(f"holding every total against a plain count of {file.path.name}", highlight=False)
    with file.open() as lines:
        expected = count_flights(lines, options.limit)
    states = [
        (kind, entity_id, state) for kind in workload.kinds for entity_id, state in cluster.states(kind)
    ]
    if states_file is not None:
        states_file.write(state for state in states if state[1] in fed.get(state[0], ()))
    found = differences(
        expected,
        before,
        (((type_name(kind), entity_id), state) for kind, entity_id, state in states),
        ((type_name(kind), entity_id) for kind, ids in fed.items() for entity_id in ids),
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
    remember: bool,
) -> tuple[Summary, dict[type[Entity], set[str]]]:
    types = tuple(type_name(kind) for kind in workload.kinds)
    for kind in workload.kinds:
        _register(cluster, kind)
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
    growth = Growth(before, after, types)
    p50, p99 = growth.latency_s(0.5, 0.99)
    summary = Summary(
        rows=progress.rows,
        rejected=rejects.count,
        messages=feeder.sent,
        replies=feeder.settled,
        errors=dict(sorted(feeder.errors.items())),
        entities=growth.live(),
        activations=growth.counts("cluster_entity_activations_total"),
        deactivations=growth.counts("cluster_entity_deactivations_total"),
        elapsed_s=elapsed_s,
        latency_s={"p50": p50, "p99": p99},
    )
    return summary, feeder.fed


def _register(cluster: ReplayCluster, kind: type[Entity]) -> None:
    # The first message would do it; but then each of them would end with the one reason why it cannot be done.
    try:
        cluster.register(kind)
    except ConnectionError:
        raise
    except Exception as error:
        raise Refusal(
            f"{kind.__name__} cannot be fed: {error}",
            hint="if its code has changed: cluster-app down, or another --namespace",
        ) from error
