"""Records on disk: what was noted survives a kill, is read in the order of time, and bad lines are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.history import FileScribe, History, MemoryScribe

_ENDLESS = """
import sys
from tests.chaos.history import FileScribe
scribe = FileScribe(sys.argv[1], "w")
for number in range(10**9):
    scribe.note("lease", runner="r", until=number)
    if number == 1000:
        print(flush=True)
"""


def test_what_was_noted_survives_a_kill(tmp_path: Path) -> None:
    """Killed in the middle of writing, a process leaves whole lines, and all that it had noted."""
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    history = History.read(tmp_path)
    assert len(history) > 1000
    assert [event["until"] for event in history.events] == list(range(len(history)))
    assert {event["pid"] for event in history.events} == {process.pid}


def test_files_are_read_as_one_record(tmp_path: Path) -> None:
    """Events of several processes in the order of time; those of one moment in that of their file."""
    times = iter([1.0, 5.0, 5.0, 9.0])
    early, late = FileScribe(tmp_path, "b", lambda: next(times)), FileScribe(tmp_path, "a", lambda: 3.0)
    for until in range(4):
        early.note("lease", runner="b", until=until)
    late.note("lease", runner="a", until=0)
    early.close()
    late.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"a-{os.getpid()}.jsonl",
        f"b-{os.getpid()}.jsonl",
    ]
    history = History.read(tmp_path)
    assert [(event["runner"], event["until"]) for event in history.events] == [
        ("b", 0),
        ("a", 0),
        ("b", 1),
        ("b", 2),
        ("b", 3),
    ]
    assert [history.moment(at) for at in (0.0, 1.0, 3.5, 5.0, 9.0, 9.5)] == [0, 0, 2, 2, 4, 5]


def test_a_record_can_be_kept(tmp_path: Path) -> None:
    """Written to one file and read again it is the same."""
    scribe = MemoryScribe(lambda: 1.5)
    scribe.note("end", pid=3)
    scribe.note("lease", runner="r", until=2.0)
    history = History(scribe.events)
    history.write(tmp_path / "kept.jsonl")
    assert History.read(tmp_path).events == history.events


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """Which file, and which line of it."""
    (tmp_path / "w-1.jsonl").write_text('{"e":"end","at":1,"pid":1}\n{"e":"en')
    with pytest.raises(ValueError, match=r"w-1\.jsonl, line 2"):
        History.read(tmp_path)


@pytest.mark.parametrize(
    "event, complaint",
    [
        ({"e": "lease", "at": 1.0, "pid": 1, "runner": "r"}, "'lease' without until"),
        ({"e": "end", "pid": 1}, "'end' without at"),
        ({"e": "leased", "at": 1.0, "pid": 1}, "no event is called 'leased'"),
    ],
)
def test_what_is_no_event_is_refused(event: dict[str, object], complaint: str) -> None:
    """An unknown kind, or a key that is missing: never taken for something that did not happen."""
    with pytest.raises(ValueError, match=complaint):
        History([event])
