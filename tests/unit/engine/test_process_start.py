"""When a process was started, as the kernel tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cluster_app.process_start import process_start


def test_it_stays_the_same_and_is_zero_once_the_process_is_gone(tmp_path: Path) -> None:
    """Whatever the program is called: its name stands before it, in parentheses."""
    program = tmp_path / "a) b (c"
    shutil.copy("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        started = process_start(child.pid)
        assert started == process_start(child.pid) >= process_start(os.getpid()) > 0
        child.communicate()
    assert process_start(child.pid) == 0
