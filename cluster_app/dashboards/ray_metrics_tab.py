"""The dashboard in Ray's Metrics tab: the overview on top of what Ray shows there by itself.

The tab shows one dashboard whole, the one with the uid of ``RAY_GRAFANA_DEFAULT_DASHBOARD_UID``, and Ray's other pages
take two of its panels by number. Ray gives its own default dashboard the same uid. So there must be one that is both,
and Ray's own must not reach the same Grafana. It is made when it is asked for, by the Ray that is installed: its
dashboards change with it.

It decides how the two are put together, and which other dashboards of Ray's go along. The overview's rows but the
first are folded, so that Ray's own begin on the first screen.
"""

from __future__ import annotations

import json
from typing import Any

import ray

from cluster_app.dashboards.dashboard import Dashboard
from cluster_app.replay.refusal import Refusal

__all__ = ["other_dashboards", "tab"]

OTHERS = ("serve", "serve_deployment", "serve_llm", "serve_llm_sglang", "data", "data_llm", "train")
"""Ray's dashboards beside its default one, as its functions name them."""


def tab(overview: Dashboard, uid: str) -> str:
    """The text of the dashboard that is Ray's default one with the overview on top.

    Raises Refusal when the installed Ray does not tell what its own is.
    """
    merged = json.loads(_of_ray("default"))
    ours = overview.as_dict()
    of_ray: list[dict[str, Any]] = merged["panels"]
    # Numbers of Ray's panels stay: its pages ask for them.
    taken = max(panel["id"] for panel in _with_folded(of_ray))
    for panel in ours["panels"]:
        panel["id"] += taken
    rows = _folded(ours["panels"])
    end = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in rows)
    for panel in _with_folded(of_ray):
        panel["gridPos"]["y"] += end
    merged["panels"] = rows + of_ray
    variables: list[dict[str, Any]] = merged["templating"]["list"]
    known = {variable["name"] for variable in variables}
    variables += [variable for variable in ours["templating"]["list"] if variable["name"] not in known]
    merged["links"] = [*merged.get("links", []), *ours["links"]]
    merged["tags"] = [*merged.get("tags", []), *ours["tags"]]
    merged["title"] = "Ray and cluster-app"
    merged["description"] = "Ray's default dashboard, with the overview of cluster-app on top."
    merged["uid"] = uid
    return json.dumps(merged, indent=2) + "\n"


def other_dashboards() -> dict[str, str]:
    """Ray's own dashboards that its pages show beside the default one: texts by file name.

    Raises Refusal when the installed Ray does not tell what they are.
    """
    return {f"{name}.json": _of_ray(name) for name in OTHERS}


def _of_ray(name: str) -> str:
    try:
        from ray.dashboard.modules.metrics import grafana_dashboard_factory as factory

        text, _ = getattr(factory, f"generate_{name}_grafana_dashboard")()
    except (ImportError, AttributeError) as error:
        raise Refusal(
            f"Ray {ray.__version__} does not tell its {name} dashboard as Ray 2.60 does: {error}",
            hint="--ray-dashboards none leaves Ray's own out",
        ) from error
    return str(text)


def _folded(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same panels, with each row but the first folded: its panels are then inside of it."""
    found: list[dict[str, Any]] = []
    rows = 0
    for panel in panels:
        if panel["type"] == "row":
            rows += 1
            if rows > 1:
                last = found[-1]["gridPos"]
                panel["gridPos"]["y"] = last["y"] + last["h"]
                panel["collapsed"] = True
            found.append(panel)
        elif rows > 1:
            found[-1]["panels"].append(panel)
        else:
            found.append(panel)
    return found


def _with_folded(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [inner for panel in panels for inner in (panel, *panel.get("panels", ()))]
