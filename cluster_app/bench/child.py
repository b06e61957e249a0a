"""A measurement in a process of its own: started, awaited, its one JSON line read.

It decides that the child has the caller's environment but for the address of its Ray, that this distribution's code
is compiled as an installed one's is, and what is told when it fails.
"""

from __future__ import annotations

import compileall
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["ChildFailed", "run_child"]

TIMEOUT_S = 900.0


class ChildFailed(Exception):
    """The measuring process did not end with its line.

    :ivar hint: what to do, or how to see all that it said.
    """

    def __init__(self, module: str, said: str, asked: str) -> None:
        last = said.strip().splitlines()[-1:] or ["no word"]
        super().__init__(f"{module}: {last[0]}")
        self.hint = f"run it alone: python -m {module} '{asked}'"
        missing = re.search(r"No module named '(xoscar|psutil|scipy)'", last[0])
        if missing:
            self.hint = f"{missing[1]} comes with the peers: pip install '.[bench]' in its checkout"


def run_child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run ``python -m module`` and return the object it printed last. Raises ChildFailed."""
    _compile()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    argument = json.dumps(dict(asked))
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, argument],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(module, f"no end after {TIMEOUT_S:.0f} s", argument) from error
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise ChildFailed(module, done.stderr, argument)
    said: dict[str, Any] = json.loads(lines[-1])
    return said


@cache
def _compile() -> None:
    # pip compiles what it installs, Ray among it, but no checkout. Where Python is told to write no bytecode, that one
    # would be compiled anew in each process.
    home = Path(__file__).resolve().parents[2]
    for package in ("cluster_app", "entities", "observe"):
        compileall.compile_dir(home / package, quiet=2)
