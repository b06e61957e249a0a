"""``cluster-app dashboards``: Grafana dashboards, their provisioning, and Prometheus rules, written to a folder.

It decides options and what is told of the files. It needs no cluster, and reaches for none.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cluster_app.commands.connection import Json
from cluster_app.replay.refusal import Refusal

__all__ = ["dashboards"]


class Names(StrEnum):
    """By which way the metrics reach Prometheus."""

    ray = "ray"
    otlp = "otlp"


class OfRay(StrEnum):
    """What of Ray's own dashboards is written too."""

    all = "all"
    tab = "tab"
    none = "none"


def dashboards(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to; it is made.")],
    names: Annotated[
        Names,
        typer.Option(help="How metrics reach Prometheus: from Ray's own /metrics, or by an OTLP collector."),
    ] = Names.ray,
    ray_dashboards: Annotated[
        OfRay,
        typer.Option(
            help="Ray's own dashboards too: all, for a Grafana that has none of them; only that of the Metrics tab; "
            "or none."
        ),
    ] = OfRay.all,
    uid: Annotated[
        str,
        typer.Option(
            envvar="RAY_GRAFANA_DEFAULT_DASHBOARD_UID", help="Uid of the dashboard in Ray's Metrics tab."
        ),
    ] = "cluster-app-metrics-tab",
    prometheus: Annotated[
        str, typer.Option(envvar="RAY_PROMETHEUS_HOST", help="Prometheus as Grafana reaches it.")
    ] = "http://localhost:9090",
    datasource: Annotated[
        str, typer.Option(envvar="RAY_PROMETHEUS_NAME", help="What that Prometheus is called in Grafana.")
    ] = "Prometheus",
    seen_as: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="DIR as Grafana sees it, where that is not the same: in a container."
        ),
    ] = None,
    runbook: Annotated[
        str,
        typer.Option(metavar="URL", help="Where your people find the runbook; alerts link to its sections."),
    ] = "docs/runbook.md",
    as_json: Json = False,
) -> None:
    """Write Grafana dashboards, their provisioning and Prometheus alerts. The same again changes nothing."""
    try:
        from cluster_app.dashboards import folder
        from cluster_app.dashboards.names import NAME_SETS
    except ModuleNotFoundError as missing:
        raise Refusal(
            f"{missing.name} is not installed", hint="pip install '.[dashboards]' in its checkout"
        ) from missing
    _check(uid)
    target = out.expanduser().absolute()
    order = folder.Order(
        names=NAME_SETS[names],
        seen_as=seen_as or target,
        of_ray=ray_dashboards.value,
        uid=uid,
        prometheus=prometheus,
        source=datasource,
        runbook=runbook,
    )
    done = folder.write(target, folder.texts(order))
    environment = {} if ray_dashboards is OfRay.none else {"RAY_GRAFANA_DEFAULT_DASHBOARD_UID": uid}
    environment |= {"RAY_PROMETHEUS_HOST": prometheus, "RAY_PROMETHEUS_NAME": datasource}
    if as_json:
        told = {"out": str(target), "names": names.value, "environment": environment}
        print(json.dumps({**told, "written": done.written, "unchanged": done.unchanged}))
        return
    for path in done.written:
        print(target / path)
    print(f"{len(done.written)} files written to {target}, {len(done.unchanged)} are as they were")
    print(
        f"Grafana reads it:   grafana server --config {order.seen_as / 'grafana.ini'} --homepath /usr/share/grafana"
    )
    print(f"Prometheus reads:   rule_files: [{target / 'prometheus/cluster-app-alerts.yaml'}]")
    for variable, value in environment.items():
        print(f"at ray start:       export {variable}={value}")


def _check(uid: str) -> None:
    if not (0 < len(uid) <= 40 and all(c.isascii() and (c.isalnum() or c in "-_") for c in uid)):
        raise Refusal(
            f"{uid!r} is no uid for Grafana",
            hint="--uid takes 1 to 40 letters, digits, - and _",
            exit_code=2,
        )
