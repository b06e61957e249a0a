"""Prometheus' own checker, `promtool`: of Debian's package `prometheus`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.programs import needs

__all__ = ["promtool"]


def promtool(*arguments: str | Path) -> str:
    """Run promtool; what it printed. Fails the test when it finds fault."""
    done = subprocess.run(
        [needs("promtool", "prometheus"), *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
