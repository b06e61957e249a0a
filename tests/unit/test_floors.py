"""A user's own folder called `entities` or `observe`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["entities", "observe"])
def test_a_folder_that_hides_ours_is_named_at_import(tmp_path: Path, name: str) -> None:
    """Both paths and the way out are in the error; nothing of the foreign package is run."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("print('foreign code ran')\n")
    script = "import cluster_app"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 1
    assert "foreign code ran" not in done.stdout
    assert str(tmp_path / name) in done.stderr
    assert str(Path(__file__).parents[2] / name) in done.stderr
    assert "rename that" in done.stderr


def test_a_module_that_hides_ours_is_named_itself(tmp_path: Path) -> None:
    """Not the folder that it lies in, which is the user's project."""
    (tmp_path / "entities.py").write_text("print('foreign code ran')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import cluster_app"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path / 'entities.py'} hides" in done.stderr
