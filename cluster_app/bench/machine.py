"""The machine that a figure was measured on, without which it says nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster_app.config import ClusterConfig

__all__ = ["machine"]


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions, the date (UTC), and what the environment sets of `ClusterConfig`."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "settings": _settings(),
        "versions": {name: _version(name) for name in ("cluster-app", "ray", "xoscar", "opentelemetry-sdk")},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _settings() -> dict[str, str]:
    names = (f"CLUSTER_APP_{field.upper()}" for field in ClusterConfig.model_fields)
    return {name: os.environ[name] for name in names if name in os.environ}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
