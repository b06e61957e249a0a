"""CPU time of this process and of others."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from cluster_app.bench.cpu_clock import cpu_clock

BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(time.process_time(), flush=True)\ninput()"


def test_the_work_of_another_process_counts_and_its_idleness_does_not() -> None:
    """By the time that the other process itself has measured."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        told_s = float(other.stdout.readline())
        own_s = time.process_time()
        both_s = cpu_clock(other.pid)()
        # What either did between the two readings: far less than a tenth of a second.
        assert told_s <= both_s - own_s < told_s + 0.1
        clock = cpu_clock(other.pid)
        other.stdin.write("\n")
        other.stdin.close()
        other.wait()
        with pytest.raises(OSError):
            clock()


def test_without_others_it_is_this_process() -> None:
    """All threads of it."""
    before_s = time.process_time()
    assert before_s <= cpu_clock()() <= time.process_time()
