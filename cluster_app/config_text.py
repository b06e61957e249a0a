"""A cluster's configuration on its way to the cluster's own processes.

It was checked when the cluster was started, and is not again: to load the class that checks it takes a tenth of a
process's start, and when the coordinator is lost everybody waits for that of the next one.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig

__all__ = ["read_config"]


def read_config(text: str) -> ClusterConfig:
    """The fields of a configuration that `ClusterConfig.model_dump_json` wrote, and nothing else of it."""
    return cast("ClusterConfig", SimpleNamespace(**json.loads(text)))
