"""A folder of dashboards, provisioning and rules: which files it has, and how they come there.

It decides paths and texts. Writing the same again changes nothing, and files that are not ours stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from cluster_app.dashboards.alerts import alerts
from cluster_app.dashboards.idle_time import idle_time
from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.overview import overview
from cluster_app.dashboards.provisioning import data_source, providers, settings
from cluster_app.dashboards.rule import as_yaml
from cluster_app.replay.refusal import Refusal

__all__ = ["TAB_UID", "Order", "Written", "texts", "write"]

TAB_UID = "cluster-app-metrics-tab"
"""The uid of the dashboard in Ray's Metrics tab, unless another one is asked for."""

RAY = PurePath("dashboards", "ray")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    :ivar seen_as: the folder's path as Grafana sees it.
    :ivar of_ray: what of Ray's own dashboards goes along: ``all``, only that of the Metrics ``tab``, or ``none``.
    :ivar uid: of the dashboard in Ray's Metrics tab.
    :ivar prometheus: its address as Grafana reaches it.
    :ivar source: what that Prometheus is called in Grafana.
    :ivar runbook: the address of the page with a section for each alert.
    """

    names: NameSet
    seen_as: PurePath
    of_ray: Literal["all", "tab", "none"]
    uid: str
    prometheus: str
    source: str
    runbook: str


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the files, by path relative to the folder."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]


def texts(order: Order) -> dict[str, str]:
    """The text of each file, by its path relative to the folder."""
    first = overview(order.names)
    found = {
        "grafana.ini": settings(order.seen_as),
        "provisioning/dashboards/cluster-app.yaml": providers(order.seen_as, with_ray=order.of_ray != "none"),
        "provisioning/datasources/cluster-app.yaml": data_source(order.source, order.prometheus),
        "dashboards/cluster-app/overview.json": first.as_json(),
        "dashboards/cluster-app/idle-time.json": idle_time(order.names).as_json(),
        "prometheus/cluster-app-alerts.yaml": as_yaml(alerts(order.names), order.runbook),
    }
    if order.of_ray != "none":
        # Ray is slow to load, and nobody else here needs it.
        from cluster_app.dashboards.ray_metrics_tab import other_dashboards, tab

        found[str(RAY / "metrics-tab.json")] = tab(first, order.uid)
        if order.of_ray == "all":
            found |= {str(RAY / name): text for name, text in other_dashboards().items()}
    return found


def write(folder: Path, found: Mapping[str, str]) -> Written:
    """Bring the folder to these texts, and say which files that changed.

    Each file is replaced in one go, so a Grafana that reads meanwhile sees the old or the new. Raises Refusal when
    the folder can't be written, or has a dashboard of the same uid that is not ours.
    """
    try:
        _refuse_strangers(folder, found)
        changed = [path for path, text in found.items() if _read(folder / path) != text]
        for path in changed:
            _replace(folder / path, found[path])
    except OSError as error:
        raise Refusal(
            f"cannot write {error.filename or folder}: {error.strerror or error}",
            hint="name a folder by --out that you may write to; it is made if it is not there",
        ) from error
    return Written(tuple(sorted(changed)), tuple(sorted(set(found) - set(changed))))


def _refuse_strangers(folder: Path, found: Mapping[str, str]) -> None:
    uids = {_uid(text): path for path, text in found.items() if path.endswith(".json")}
    for path in sorted((folder / "dashboards").rglob("*.json")):
        relative = path.relative_to(folder).as_posix()
        if relative not in found and (uid := _uid(_read(path) or "")) in uids:
            raise Refusal(
                f"{path} has the uid {uid} of {uids[uid]}: Grafana would take neither",
                hint="remove it, and let RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR name another folder",
            )


def _uid(text: str) -> str | None:
    try:
        uid = json.loads(text).get("uid")
    except (ValueError, AttributeError):
        return None
    return uid if isinstance(uid, str) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
