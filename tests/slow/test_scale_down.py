"""A worker node without entities is left, as Ray's own report shows; it comes back on demand, and all counts stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from tests.source import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def saw() -> dict[str, Any]:
    """What a driver on two nodes saw."""
    with tempfile.TemporaryDirectory(
        prefix="r", ignore_cleanup_errors=True
    ) as folder:  # its sockets want a short name
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        run = subprocess.run(
            [sys.executable, "-m", "tests.slow.two_nodes"],
            cwd=ROOT,
            # Its head must not be what `ray.init()` finds elsewhere on this machine.
            env={**environment, "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=170,
        )
    told = [line for line in run.stdout.splitlines() if line.startswith("SAW ")]
    assert told, run.stdout[-2000:] + run.stderr[-4000:]
    found: dict[str, Any] = json.loads(told[0].removeprefix("SAW "))
    return found


def test_a_node_in_use_is_busy_for_ray(saw: dict[str, Any]) -> None:
    """Our actors are there, so its autoscaler would keep it."""
    assert saw["used"]["idle_ms"] == 0
    assert saw["used"]["runners"] == 2
    assert saw["used"]["received"] == saw["used"]["activations"] == 40


def test_without_entities_ray_takes_it_for_idle(saw: dict[str, Any]) -> None:
    """Runner and agent have gone; by Ray's own report the node has been idle since."""
    assert saw["given up idle_ms"] >= 1500
    assert saw["runner left"] == [True]
    assert saw["given up"]["runners"] == 1


def test_nothing_that_was_counted_there_is_lost_or_counted_twice(saw: dict[str, Any]) -> None:
    """The node's account lives on at the head: 40 greeted, 40 seen off, all its shards handed over."""
    assert saw["given up"] == saw["given up again"]
    assert saw["given up"] == {
        "sent": 80,
        "received": 80,
        "activations": 40,
        "errors": 0,
        "lost": 0,
        "left": saw["shards there"],
        "runners": 1,
    }


def test_a_crowd_brings_it_back(saw: dict[str, Any]) -> None:
    """More entities than `crowded_entities`: it has a runner again, is busy again, and counts go on exactly."""
    assert saw["taken back"] == 2
    assert saw["loaded"]["idle_ms"] == 0
    assert saw["loaded"]["sent"] == saw["loaded"]["received"] == 80 + 400
    assert saw["loaded"]["runners"] == 2
    assert (saw["loaded"]["errors"], saw["loaded"]["lost"]) == (0, 0)


def test_a_process_that_connects_there_brings_it_back(saw: dict[str, Any]) -> None:
    """A user's actor on the node that was given up has an agent to report to: what it sent is counted."""
    assert saw["visited there"]
    assert saw["staff for the visitor"]
    assert saw["visited"]["sent"] == saw["visited"]["received"] == 80 + 400 + 200 + 10
    assert (saw["visited"]["errors"], saw["visited"]["lost"]) == (0, 0)


def test_a_drained_node_is_empty_until_it_is_taken_back(saw: dict[str, Any]) -> None:
    """Its shards move with reason drain and its agent goes as well; the node that is left cannot be drained."""
    assert saw["drained"] == saw["by drain"] > 0
    assert "no other node could take the shards of node" in saw["refusal"]
    assert saw["undrained"]["sent"] == saw["undrained"]["received"] == 80 + 400 + 200 + 10 + 10
    assert (saw["undrained"]["errors"], saw["undrained"]["lost"]) == (0, 0)
