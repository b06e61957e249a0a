"""What a program saw that runs as a process of its own, on a Ray of its own: a process can be in one Ray only.

Such a program is a module of the tests, with a `main` that returns what it saw as JSON can hold it, and `tell`s it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from tests.source import ROOT

__all__ = ["seen_by", "tell"]

_MARK = "SAW "


def tell(saw: dict[str, Any]) -> None:
    """Say what was seen, to whoever started this program."""
    print(_MARK + json.dumps(saw))


def seen_by(module: str, *, within_s: float, **environment: str) -> dict[str, Any]:
    """Run a module of the tests, and return what it tells; fails with the end of its output if it tells nothing.

    :param environment: variables that it gets; of this process's own it gets none of Ray's.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(
        prefix="r", ignore_cleanup_errors=True
    ) as folder:  # its sockets want a short name
        run = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            # Its head must not be what `ray.init()` finds elsewhere on this machine.
            env={**inherited, "RAY_TMPDIR": folder, **environment},
            capture_output=True,
            text=True,
            timeout=within_s,
        )
    told = [line for line in run.stdout.splitlines() if line.startswith(_MARK)]
    assert told, run.stdout[-2000:] + run.stderr[-4000:]
    found: dict[str, Any] = json.loads(told[0].removeprefix(_MARK))
    return found
