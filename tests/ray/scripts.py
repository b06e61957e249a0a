"""Drivers that are scripts in a folder of their own, as users write them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.ray.driver_process import environment

__all__ = ["run", "write"]


def write(folder: Path, **texts: str) -> None:
    """Write modules, each with the text of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


def run(script: Path, *arguments: str) -> str:
    """What a script prints; fails unless it ends well."""
    done = subprocess.run(
        [sys.executable, "-B", str(script), *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
