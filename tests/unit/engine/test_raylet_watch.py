"""A runner ends with its raylet at once. A process that never listens stands for it, one that sleeps for the raylet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.source import ROOT

# Nothing else in it can end it: its handler never gives back control.
_RUNNER = """
from cluster_app.raylet_watch import end_with_raylet

end_with_raylet()
print("here", flush=True)
while True:
    pass
"""


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen[bytes]]:
    """It lives until it is killed."""
    raylet = subprocess.Popen(["sleep", "300"])
    yield raylet
    raylet.kill()
    raylet.wait()


def runner(raylet_pid: int | None) -> subprocess.Popen[bytes]:
    """A runner of that raylet; of its own parent, if Ray has not told it of another."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_RAYLET_PID"}
    told = {} if raylet_pid is None else {"RAY_RAYLET_PID": str(raylet_pid)}
    return subprocess.Popen(
        [sys.executable, "-c", _RUNNER], cwd=ROOT, env=environment | told, stdout=subprocess.PIPE
    )


def test_a_runner_ends_with_its_raylet_whatever_it_is_doing(raylet: subprocess.Popen[bytes]) -> None:
    """Not before, and although its only thread of Python's is held up."""
    with runner(raylet.pid) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"here\n"
            assert process.poll() is None
            raylet.kill()
            assert process.wait(timeout=20) == 1
        finally:
            process.kill()


def test_a_runner_whose_raylet_has_ended_already_does_not_begin(raylet: subprocess.Popen[bytes]) -> None:
    """It would serve, and nobody would see its end."""
    raylet.kill()
    raylet.wait()
    with runner(raylet.pid) as process:
        try:
            assert process.wait(timeout=20) == 1
            assert process.stdout is not None and process.stdout.read() == b""
        finally:
            process.kill()


def test_a_runner_that_ray_has_told_of_no_raylet_lives_as_long_as_its_parent() -> None:
    """A worker is its raylet's child."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])",
            _RUNNER,
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_RAYLET_PID"},
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"here\n"
        parent.kill()
        # Its end of the pipe is the last.
        assert parent.stdout.read() == b""
