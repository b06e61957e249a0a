"""``cluster-app top``: a running cluster, looked at again and again.

It decides what is shown of a cluster's activity, and leaves the terminal as it was when it ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster_app.activity import Activity, activity_between
from cluster_app.cluster import Cluster
from cluster_app.commands.connection import Address, Json, Namespace, joined, quiet_stdout
from cluster_app.commands.ctrl_c import heard_ctrl_c
from cluster_app.commands.screen import screen

__all__ = ["top"]


def top(
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One interval, then end.")] = False,
    address: Address = None,
    namespace: Namespace = "cluster_app",
    as_json: Json = False,
) -> None:
    """Show what a running cluster does: rates and latencies by type, hot entities, runners. Ctrl-C ends it.

    With --json it prints one object a line, for each interval.
    """
    out = sys.stdout
    with quiet_stdout(as_json), joined(address, namespace) as cluster:
        intervals = _intervals(cluster, interval)
        if as_json:
            for activity in intervals:
                print(json.dumps(activity.as_dict()), file=out, flush=True)
                if once:
                    return
        console = screen()
        if once or not console.is_terminal:
            for activity in intervals:
                console.print(_picture(activity))
                if once:
                    return
        # On a screen of its own: what stood on the terminal before is there again afterwards.
        waiting = Text(f"looking at cluster {namespace} for {interval:g} s")
        with Live(waiting, console=console, screen=True, auto_refresh=False) as live:
            for activity in intervals:
                live.update(_picture(activity), refresh=True)


def _intervals(cluster: Cluster, interval_s: float) -> Iterator[Activity]:
    with heard_ctrl_c() as check:
        since, before = monotonic(), cluster.metrics()
        while True:
            sleep(max(0.0, since + interval_s - monotonic()))
            check()
            now, after = monotonic(), cluster.metrics()
            yield activity_between(before, after, cluster.status(), max(now - since, 1e-9))
            since, before = now, after


def _picture(activity: Activity) -> Group:
    status = activity.status
    healthy = sum(runner.healthy for runner in status.runners)
    head = Text(
        f"cluster-app {status.version}: {activity.messages_per_s:,.0f} messages/s, "
        f"{sum(status.entities.values()):,} entities, {status.shards} shards, "
        f"{healthy} of {len(status.runners)} runners healthy, term {status.coordinator.term}"
    )
    return Group(head, _types(activity), _hot(activity), _runners(activity))


def _types(activity: Activity) -> Table:
    table = Table("entity type")
    for column in ("live", "messages/s", "errors/s", "p50", "p99"):
        table.add_column(column, justify="right")
    for found in activity.types:
        table.add_row(
            found.type,
            f"{found.live:,}",
            f"{found.messages_per_s:,.1f}",
            f"{found.errors_per_s:,.1f}",
            _milliseconds(found.p50_s),
            _milliseconds(found.p99_s),
        )
    return table


def _hot(activity: Activity) -> Table:
    table = Table("hot entity")
    table.add_column("messages/s", justify="right")
    table.add_column("or more by", justify="right")
    for hot in activity.status.hot:
        # As text: an id may hold anything, also what rich takes for markup.
        table.add_row(
            Text(f"{hot.type}/{hot.id}"), f"about {hot.messages_per_s:,.1f}", f"{hot.error_per_s:,.1f}"
        )
    return table


def _runners(activity: Activity) -> Table:
    table = Table("runner", "node", "pid", "healthy")
    for column in ("shards", "entities", "senders"):
        table.add_column(column, justify="right")
    for runner in activity.status.runners:
        table.add_row(
            runner.id,
            runner.node_id[:8],
            str(runner.pid),
            "yes" if runner.healthy else "NO",
            f"{runner.shards:,}",
            f"{runner.entities:,}",
            f"{runner.lanes:,}",
        )
    return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.2f} ms"
