"""The parts of a run of faults: nobody is left behind, ends are seen, messages under way are counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos.exits import Exits
from tests.chaos.history import FileScribe, History
from tests.chaos.under_way import UnderWay
from tests.source import ROOT

# Leaves an orphan that stands still, says which, and ends as told.
_LEAVES_BEHIND = """
import os, signal, subprocess, sys
from tests.chaos.guard import guarded

def work():
    middle = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!"], stdout=subprocess.PIPE, text=True)
    orphan = int(middle.stdout.readline())
    middle.wait()
    os.kill(orphan, signal.SIGSTOP)
    print(orphan, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "raises":
        raise RuntimeError("as told")
    return 7

sys.exit(guarded(work))
"""

# Introduces itself, ends in good order if asked to, and then waits to be ended.
_INTRODUCES_ITSELF = """
import sys
from tests.chaos import processes

processes.introduce("runner", sys.argv[1], "node-1")
if sys.argv[2] == "orderly":
    processes.farewell()
print("here", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "code"), [("returns", 7), ("raises", 1), ("killed", 247)])
def test_a_run_leaves_no_process_behind(how: str, code: int) -> None:
    """However it ends, and though one of them stands still and has lost its parent."""
    run = subprocess.run(
        [sys.executable, "-c", _LEAVES_BEHIND, how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert not psutil.pid_exists(int(run.stdout))
    assert run.returncode == code


def _introduced(folder: Path, who: str, how: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _INTRODUCES_ITSELF, who, how],
        cwd=ROOT,
        env={**os.environ, "CHAOS_RECORD": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _seen_to_end(exits: Exits, pid: int) -> None:
    deadline = time.monotonic() + 20
    while not exits.has_ended(pid):
        assert time.monotonic() < deadline, "its end was not seen"
        time.sleep(0.01)


def test_each_end_is_seen_and_says_whether_it_was_orderly(tmp_path: Path) -> None:
    """One is killed, one ends as it said, one as it said on a node that took its counts along; a fourth lives."""
    exits = Exits(tmp_path)
    hows = {"killed": "", "orderly": "orderly", "lost": "orderly", "living": ""}
    processes = {who: _introduced(tmp_path, who, how) for who, how in hows.items()}
    for who in ("killed", "orderly"):
        processes[who].send_signal(signal.SIGKILL)
        _seen_to_end(exits, processes[who].pid)
    assert {p.who for p in exits.living("runner", "node-1")} == {"lost", "living"}
    assert exits.living("runner", "node-2") == exits.living("driver") == []

    scribe = FileScribe(tmp_path, "main")
    exits.note(scribe, set())
    history = History.read(tmp_path)
    ended = {history.events[m]["who"]: history.events[m]["orderly"] for m in history.of("ended")}
    assert ended == {"killed": False, "orderly": True}
    for process in processes.values():
        process.kill()
        process.communicate()


def test_what_was_counted_on_a_lost_node_is_no_whole_account(tmp_path: Path) -> None:
    """A runner that had said goodbye counts as killed once its node is gone."""
    exits = Exits(tmp_path)
    process = _introduced(tmp_path, "gone", "orderly")
    process.kill()
    process.communicate()
    _seen_to_end(exits, process.pid)
    exits.note(FileScribe(tmp_path, "main"), {"node-1"})
    history = History.read(tmp_path)
    assert [history.events[m]["orderly"] for m in history.of("ended")] == [False]


def test_messages_under_way_are_those_without_a_fate_of_senders_that_live(tmp_path: Path) -> None:
    """Read on while it is written; half a line is not read yet."""
    dead: set[int] = set()
    under_way = UnderWay(tmp_path, dead.__contains__)
    assert under_way.now() == 0
    (tmp_path / "a-1.jsonl").write_text(
        '{"e":"sent","x":1}\n{"e":"sent","x":2}\n{"e":"fate","x":1}\n{"e":"began"}\n'
    )
    (tmp_path / "b-2.jsonl").write_text('{"e":"sent","x":3}\n{"e":"se')
    assert under_way.now() == 2
    assert under_way.sent == 3
    with (tmp_path / "b-2.jsonl").open("a") as file:
        file.write('nt","x":4}\n')
    assert under_way.by_sender() == {"a-1": 1, "b-2": 2}
    dead.add(2)
    assert under_way.now() == 1
