"""Python runs this in each process of a Ray whose PYTHONPATH has this folder: it prepares them for a run of faults.

Decides only when: as soon as a module that is to be watched or broken has been imported. What is done to it is
`tests.chaos.inside`'s business.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType

_WATCHED = (
    "cluster_app.runner",
    "cluster_app.coordinator_service",
    "cluster_app.inbound_lane",
    "cluster_app.coordinator",
    "cluster_app.annexed_entity",
    "cluster_app.ray_reporter",
    "observe.node_agent",
)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from tests.chaos import inside

        inside.imported(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


if os.environ.get("CHAOS_RECORD"):
    sys.meta_path.insert(0, _Finder())
