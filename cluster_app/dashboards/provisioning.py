"""What makes Grafana read the dashboards by itself: providers, the data source, and settings that let Ray show them.

It decides Grafana's configuration as far as it is ours. Paths in it are those that Grafana sees.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import yaml

__all__ = ["OUR_FOLDER", "RAY_FOLDER", "data_source", "providers", "settings"]

OUR_FOLDER, RAY_FOLDER = "cluster-app", "Ray"
"""Grafana's folders for our dashboards, and for those that come from Ray."""


def providers(folder: PurePath, *, with_ray: bool) -> str:
    """The file that has Grafana load the dashboards, and look for changes twice a minute."""
    read = {OUR_FOLDER: folder / "dashboards" / "cluster-app"}
    if with_ray:
        read[RAY_FOLDER] = folder / "dashboards" / "ray"
    return _as_yaml(
        {
            "apiVersion": 1,
            "providers": [
                {
                    "name": f"{name} by cluster-app",
                    "folder": name,
                    "type": "file",
                    "updateIntervalSeconds": 30,
                    "allowUiUpdates": False,
                    "options": {"path": str(path)},
                }
                for name, path in read.items()
            ],
        }
    )


def data_source(name: str, url: str) -> str:
    """The file that makes a Prometheus known to Grafana.

    It isn't made the default: a Grafana that has one already would refuse to start. The dashboards choose by name.
    """
    return _as_yaml(
        {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": name,
                    "type": "prometheus",
                    "access": "proxy",
                    "url": url,
                    # How often Prometheus asks: windows of rates are at least four times that.
                    "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
                }
            ],
        }
    )


def settings(folder: PurePath) -> str:
    """A configuration with which Grafana reads the folder, and Ray's dashboard may show what it draws."""
    return f"""\
# Ray's dashboard shows Grafana's in frames, and its readers have no account there: so whoever reaches this Grafana
# may look at it, and may change nothing. It listens on this machine only.

[server]
http_addr = 127.0.0.1

[security]
allow_embedding = true

[auth.anonymous]
enabled = true
org_role = Viewer

[paths]
provisioning = {folder / "provisioning"}
data = {folder / "state"}
"""


def _as_yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
