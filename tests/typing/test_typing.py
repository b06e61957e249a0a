"""mypy and pyright see right use as right and wrong use as wrong, line by line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.source import ROOT

RIGHT = ROOT / "tests/typing/right_use.py"
WRONG = ROOT / "tests/typing/wrong_use.py"

MARK = re.compile(r"#\s*error\s*$")

Checker = Callable[[Path], dict[int, str]]


def mypy(path: Path) -> dict[int, str]:
    """Line to message of what mypy --strict reports in the file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--hide-error-context", str(path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found: dict[int, str] = {}
    for line in ran.stdout.splitlines():
        report = re.match(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)", line)
        if report:
            assert ROOT.joinpath(report["file"]) == path, f"mypy objects elsewhere: {line}"
            found[int(report["line"])] = report["text"]
    assert bool(found) == (ran.returncode == 1), ran.stdout
    return found


def pyright(path: Path) -> dict[int, str]:
    """Line to message of what pyright reports in the file, in its strict mode."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    with tempfile.TemporaryDirectory() as folder:
        # A copy in a project of its own: the real one leaves the wrong file out, also when it is named.
        shutil.copy(path, folder)
        project = Path(folder, "pyrightconfig.json")
        project.write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "pyright", "--outputjson", "--project", str(project)]
        ran = subprocess.run(
            [*command, "--pythonpath", sys.executable], cwd=ROOT, capture_output=True, text=True
        )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    # Without this a file that was not looked at would pass for one without mistakes.
    assert report["summary"]["filesAnalyzed"] == 1, report["summary"]
    return {entry["range"]["start"]["line"] + 1: entry["message"] for entry in report["generalDiagnostics"]}


def marked(path: Path) -> set[int]:
    """The lines that say they are wrong."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if MARK.search(line)}


checkers = pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])


@checkers
@pytest.mark.slow
def test_right_use_has_no_diagnostics(checker: Checker) -> None:
    """What the documentation shows is typed as it says: no checker reports anything."""
    assert not marked(RIGHT)
    assert checker(RIGHT) == {}


@checkers
@pytest.mark.slow
def test_wrong_use_is_refused_line_by_line(checker: Checker) -> None:
    """Each marked line has a diagnostic and no other line has one."""
    found = checker(WRONG)
    assert marked(WRONG)
    missed = sorted(marked(WRONG) - set(found))
    assert missed == []
    assert {line: text for line, text in found.items() if line not in marked(WRONG)} == {}
