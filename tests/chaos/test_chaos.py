"""Random faults on a Ray of three nodes, a minute for each seed: all that is promised holds, by the record alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.source import ROOT

# A minute of faults, and half a minute to start and end three nodes on a busy machine.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_faults_break_no_promise(seed: int) -> None:
    """Every kind of fault is made with messages under way, messages of each method succeed, and the checker is content.

    Exactly this, for this seed or another: ``python -m tests.chaos --seed 1 --seconds 60``.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(seed), "--seconds", "60"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            said, _ = run.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            run.terminate()  # it ends its processes first
            said, _ = run.communicate()
    assert run.returncode == 0, said
