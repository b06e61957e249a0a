"""`deploy/start-collector`: one collector a machine, started anew when it has changed, and no other process touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.source import ROOT

# It says what it was told, and stays, as the collector does.
OTELCOL = """#!/usr/bin/env bash
echo "started with $*: $(cat "$2")"
exec tail -f /dev/null otelcol
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """What `ray up` puts on a host; ends the collector that a test has left."""
    shutil.copy(ROOT / "deploy" / "start-collector", tmp_path)
    (tmp_path / "otel-collector.yaml").write_text("one\n")
    program = tmp_path / "otelcol"
    program.write_text(OTELCOL)
    program.chmod(0o755)
    yield tmp_path
    if (tmp_path / "collector.pid").exists():
        try:
            os.kill(pid(tmp_path), signal.SIGKILL)
        except ProcessLookupError:
            return


def start(folder: Path) -> str:
    """Run it from elsewhere; what it complains about."""
    ran = subprocess.run([folder / "start-collector"], cwd="/", capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def pid(folder: Path) -> int:
    """The collector's process."""
    return int((folder / "collector.pid").read_text())


def until(condition: Callable[[], bool]) -> None:
    """Wait for it to come true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def log(folder: Path) -> list[str]:
    """What the collectors have said so far."""
    file = folder / "collector.log"
    return (
        [line for line in file.read_text().splitlines() if line.startswith("started")]
        if file.exists()
        else []
    )


def test_it_starts_one_collector_however_often_it_runs(folder: Path) -> None:
    """`ray up` again leaves the collector that runs alone."""
    assert start(folder) == ""
    first = pid(folder)
    until(lambda: log(folder) == ["started with --config running.yaml: one"])
    start(folder)
    assert pid(folder) == first and len(log(folder)) == 1


def test_it_starts_anew_when_the_configuration_has_changed(folder: Path) -> None:
    """The old collector ends, and one with the new configuration comes."""
    start(folder)
    first = pid(folder)
    until(lambda: len(log(folder)) == 1)
    (folder / "otel-collector.yaml").write_text("two\n")
    start(folder)
    until(lambda: log(folder)[1:] == ["started with --config running.yaml: two"])
    assert pid(folder) != first
    assert not Path(f"/proc/{first}/cwd").exists()  # or is dead and waits for whoever reaps it


def test_it_ends_no_stranger_that_has_the_number(folder: Path) -> None:
    """After a reboot the number in the file may be anybody's."""
    with subprocess.Popen(["tail", "-f", "/dev/null"], cwd="/") as stranger:
        (folder / "collector.pid").write_text(f"{stranger.pid}\n")
        start(folder)
        assert pid(folder) != stranger.pid and stranger.poll() is None
        stranger.kill()


def test_without_the_program_it_says_so_and_ray_is_started_all_the_same(folder: Path) -> None:
    """A host without a collector is no reason to have no node."""
    (folder / "otelcol").unlink()
    assert f"there is no program {folder}/otelcol" in start(folder)
    assert not (folder / "collector.pid").exists()
