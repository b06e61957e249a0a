"""The drivers of `deploy/drivers`, each by its way in, against a Ray with token authentication."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.slow.started_ray import RAY, StartedRay
from tests.source import ROOT

pytestmark = pytest.mark.ray

DRIVERS = ROOT / "deploy" / "drivers"
EACH = 300  # visits that one run makes


def printed(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one line of JSON that a driver prints, among what Ray says about it."""
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    return found


def check(said: dict[str, Any], way: str, all_sent: int) -> None:
    """It counted its own visits, and the metrics are those of all drivers so far."""
    assert said["way"] == way and said["sent"] == EACH
    assert said["totals"] == {"home": 100, "docs": 100, "prices": 100}
    metrics = said["metrics"]
    assert metrics["cluster_messages_sent_total"] == all_sent
    assert metrics["cluster_messages_received_total"] == all_sent
    assert metrics["cluster_errors_total"] == 0
    assert 0 < metrics["cluster_message_latency_seconds p99"] < 5


def shown(how: str, ray: StartedRay) -> list[str]:
    """The commands that the README of `deploy` shows for a way in, with this Ray's addresses for the usual ones."""
    readme = (ROOT / "deploy" / "README.md").read_text()
    (commands,) = re.findall(rf"<!-- runs: {how} -->\n```bash\n(.*?)```", readme, re.DOTALL)
    for usual, its in (("http://127.0.0.1:8265", ray.dashboard), ("ray://127.0.0.1:10001", ray.client)):
        commands = commands.replace(usual, its)
    return ["bash", "-euc", commands]


@pytest.mark.timeout(150)  # a Ray that is started, and three drivers that join it
def test_each_way_in_counts_to_the_unit_in_one_cluster(started_ray: StartedRay) -> None:
    """On the head, as a job from its working directory, through Ray Client: each driver's visits are all counted."""
    check(printed(started_ray.run(*shown("on the head", started_ray))), "head", EACH)
    ran = started_ray.run(*shown("as a job", started_ray), without=("RAY_ADDRESS",))
    assert "succeeded" in ran.stdout
    check(printed(ran), "job", 2 * EACH)
    check(printed(started_ray.run(*shown("through Ray Client", started_ray))), "client", 3 * EACH)


@pytest.mark.timeout(100)
def test_without_the_token_there_is_no_way_in(started_ray: StartedRay, tmp_path: Path) -> None:
    """A driver on the head and a job are refused, and told that it is for want of a token."""
    environment = started_ray.environment | {"HOME": str(tmp_path)}  # where none lies either
    nobody = started_ray._replace(environment=environment)
    ran = nobody.run(sys.executable, "on_head.py", cwd=DRIVERS, without=("RAY_AUTH_TOKEN_PATH",))
    assert ran.returncode != 0 and "AuthenticationError" in ran.stderr and "token" in ran.stderr

    submit = ("job", "submit", "--address", started_ray.dashboard)
    without = ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS")
    ran = nobody.run(RAY, *submit, "--", "python", "as_job.py", without=without)
    assert ran.returncode != 0 and "Unauthorized" in ran.stdout + ran.stderr
