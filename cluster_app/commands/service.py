"""``cluster-app status`` and ``cluster-app down``: a running cluster looked at, and ended.

It decides what of a status is shown to people. It starts nothing: where no cluster runs, that is the answer.
"""

from __future__ import annotations

import json
from datetime import datetime

from rich.console import Console
from rich.table import Table

from cluster_app.commands.connection import Address, Json, Namespace, joined, quiet_stdout
from cluster_app.commands.screen import screen
from cluster_app.status import ClusterStatus, TelemetryStatus

__all__ = ["down", "status"]


def status(address: Address = None, namespace: Namespace = "cluster_app", as_json: Json = False) -> None:
    """Show runners, entities and the coordinator of a running cluster."""
    with quiet_stdout(as_json), joined(address, namespace) as cluster:
        found = cluster.status()
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        _show(found, screen())


def down(address: Address = None, namespace: Namespace = "cluster_app", as_json: Json = False) -> None:
    """Remove runners, agents and coordinator, with all that entities hold in memory. Ray stays."""
    with quiet_stdout(as_json), joined(address, namespace) as cluster:
        cluster.shutdown()
    print(json.dumps({"namespace": namespace, "down": True}) if as_json else f"cluster {namespace} is down")


def _show(found: ClusterStatus, console: Console) -> None:
    console.print(
        f"cluster-app {found.version}, {found.shards} shards, "
        f"coordinator pid {found.coordinator.pid} in term {found.coordinator.term}",
        highlight=False,
    )
    runners = Table("runner", "node", "pid", "healthy", "shards", "entities", "lane")
    for runner in found.runners:
        runners.add_row(
            runner.id,
            runner.node_id,
            str(runner.pid),
            "yes" if runner.healthy else "NO",
            f"{runner.shards:,}",
            f"{runner.entities:,}",
            runner.lane,
        )
    console.print(runners)
    live = Table("entity type", "live")
    for name, count in sorted(found.entities.items()):
        live.add_row(name, f"{count:,}")
    console.print(live)
    if found.telemetry:
        console.print(_telemetry(found.telemetry))
    if found.singletons:
        console.print(f"singletons: {', '.join(found.singletons)}", highlight=False)


def _telemetry(states: list[TelemetryStatus]) -> Table:
    shown = Table("telemetry of node", "by", "to", "last left", "failed since", "dropped", "why")
    for state in states:
        at = state.last_success_unix_s
        shown.add_row(
            state.node_id,
            state.exporter,
            state.endpoint,
            "never" if at is None else f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}",
            f"{state.failures:,}",
            f"{state.dropped:,}",
            state.error,
        )
    return shown
