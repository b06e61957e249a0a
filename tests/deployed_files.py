"""``python -m tests.deployed_files``: writes the dashboards and rules of ``deploy`` anew from their source."""

from __future__ import annotations

from cluster_app.dashboards.alerts import RUNBOOK, alerts
from cluster_app.dashboards.idle_time import idle_time
from cluster_app.dashboards.names import NAME_SETS
from cluster_app.dashboards.overview import overview
from cluster_app.dashboards.rule import as_yaml
from tests.source import ROOT

__all__ = ["deployed_files"]


def deployed_files() -> dict[str, str]:
    """The text that each generated file below ``deploy`` should have, by its path from the project's folder."""
    found = {}
    for names in NAME_SETS.values():
        for dashboard in (overview(names), idle_time(names)):
            found[f"deploy/grafana/{dashboard.uid}.json"] = dashboard.as_json()
        found[f"deploy/prometheus/cluster-app-alerts-{names.key}.yaml"] = as_yaml(alerts(names), RUNBOOK)
    return found


if __name__ == "__main__":
    for path, text in deployed_files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
