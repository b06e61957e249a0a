"""README's python blocks do what they show.

A comment before each block says how it runs: ``alone`` (a script that needs nothing), ``given a cluster`` (it
uses the name `cluster`, here one in memory) or ``with Ray`` (a script that connects).
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster_app.testing import MemoryCluster
from tests.source import ROOT
from tests.tables import README

HOW = ("alone", "given a cluster", "with Ray")

BLOCK = re.compile(
    r"^(?:<!-- runs: (?P<how>[^>]*) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """One python block: where it begins in README, how it runs, its code."""

    line: int
    how: str
    code: str


BLOCKS = [
    Block(README.count("\n", 0, match.start("code")) + 1, match["how"] or "", match["code"])
    for match in BLOCK.finditer(README)
]


def blocks(how: str) -> pytest.MarkDecorator:
    """Parametrise a test by the blocks that run in this way."""
    chosen = [pytest.param(block, id=f"line {block.line}") for block in BLOCKS if block.how == how]
    return pytest.mark.parametrize("block", chosen)


def run_as_script(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the block as its reader would: saved to a file, in a process of its own."""
    script = folder / "snippet.py"
    script.write_text(block.code, encoding="utf-8")
    # From another folder, so that what is installed is what is imported.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_every_block_says_how_it_runs() -> None:
    """No python block of README goes untested for want of its comment."""
    assert README.count("```python") == len(BLOCKS)
    assert {block.line: block.how for block in BLOCKS if block.how not in HOW} == {}
    assert {block.how for block in BLOCKS} == set(HOW)


@blocks("alone")
def test_a_block_that_runs_alone_does(block: Block, tmp_path: Path) -> None:
    """A block that needs nothing runs as a script of its own."""
    ran = run_as_script(block, tmp_path)
    assert ran.returncode == 0, ran.stderr


@blocks("given a cluster")
def test_a_block_runs_on_a_cluster(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that uses `cluster` runs on one that has seen no message yet."""
    name = f"readme_line_{block.line}"
    script = tmp_path / f"{name}.py"
    script.write_text(block.code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered as an imported module is: a class of the block can then be looked up, and its source read.
    monkeypatch.setitem(sys.modules, name, module)
    with MemoryCluster(runners=2) as cluster:
        module.__dict__["cluster"] = cluster
        spec.loader.exec_module(module)


@blocks("with Ray")
@pytest.mark.ray
@pytest.mark.slow
def test_a_block_that_connects_runs_on_ray(block: Block, tmp_path: Path) -> None:
    """A block that connects runs as a script, and prints what its reader is told to expect."""
    ran = run_as_script(block, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[-1:] == ["1"]


def test_what_the_readme_names_is_there() -> None:
    """Files and folders that README links to, or lists for reading, exist."""
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []
    listed = re.findall(r"`((?:cluster_app|entities|observe|tests|docs)/[\w/.*]*)`", README)
    assert [name for name in listed if not list(ROOT.glob(name.rstrip("/")))] == []
