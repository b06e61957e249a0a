"""Drivers through Ray Client: in no node of the cluster, and yet all that a driver may do, counted to the unit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slow import client_driver
from tests.slow.started_ray import StartedRay

pytestmark = pytest.mark.ray

NOBODY_ELSE = 2  # report but the coordinator and the driver on the node

NEAR = """
import json, sys, time, ray, cluster_app
from cluster_app.ray_calls import agent_name, find_actor, here
ray.init(address="auto", log_to_driver=False)
cluster = cluster_app.connect(namespace="far")
for line in sys.stdin:
    while (agent := find_actor(agent_name(here()), "far")) is None:
        time.sleep(0.05)  # the service has just been started
    value = cluster.metrics().value("cluster_messages_sent_total", entity_type="Counter")
    print(json.dumps([value, ray.get(agent.reporting.remote())]), flush=True)
cluster.shutdown()
"""


class Near:
    """A driver on the node, which tells what the cluster has counted and how many processes report there."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def counted(self) -> list[Any]:
        """The messages sent to counters, and the reporting processes that are no runners."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        found: list[Any] = json.loads(line)
        return found


@pytest.fixture
def near(started_ray: StartedRay, tmp_path: Path) -> Iterator[Near]:
    """A driver on the node that lives as long as the test, and ends the service."""
    log = tmp_path / "near.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-c", NEAR],
            env=started_ray.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        found = Near(process, log)
        assert found.counted() == [0, NOBODY_ELSE]
        yield found
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def driver(what: str, started_ray: StartedRay) -> list[str]:
    """The command of one."""
    return [sys.executable, "-m", client_driver.__name__, what, started_ray.client]


@pytest.mark.timeout(120)  # perhaps the first to want the Ray, and two drivers
def test_a_driver_through_ray_client_does_what_any_driver_does(started_ray: StartedRay, near: Near) -> None:
    """References, large arguments, errors, awaiting, callbacks that call Ray, broadcast; exactly counted."""
    ran = started_ray.run(*driver("tour", started_ray))
    assert ran.returncode == 0, ran.stderr
    saw = json.loads(ran.stdout.splitlines()[-1])
    assert saw["by reference"] == 41
    assert saw["six megabytes"] == 6_000_000
    assert saw["cause"] == "LookupError('nothing there')"
    assert saw["awaited"] == [1, 2, 3]
    assert saw["callback"] == 1
    assert saw["broadcast"] == 3 and saw["live"] == ["awaited", "by reference", "callback"]
    assert saw["deactivated"] is True
    # One by reference, two to the guest, three awaited, one with a callback, three of the broadcast.
    assert saw["sent"] == saw["latencies"] == 10 and saw["errors"] == 1
    assert near.counted() == [8, NOBODY_ELSE]


@pytest.mark.timeout(120)
def test_a_driver_through_ray_client_that_ends_without_closing_has_counted(
    started_ray: StartedRay, near: Near
) -> None:
    """What a script sent before it ended is counted, and nobody waits for its reports."""
    ran = started_ray.run(*driver("forget", started_ray))
    assert ran.returncode == 0, ran.stderr
    assert near.counted() == [1, NOBODY_ELSE]


@pytest.mark.timeout(150)  # Ray keeps a place for a client that is gone for half a minute
def test_a_killed_driver_through_ray_client_is_seen_to_end(started_ray: StartedRay, near: Near) -> None:
    """Its counts stay, and the node's agent takes it for ended when Ray ends the process it had on the node."""
    environment = started_ray.environment | {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"}
    with subprocess.Popen(
        driver("hang", started_ray), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "pid" in json.loads(process.stdout.readline())
        assert process.stdout.readline() == "counted\n"
        assert near.counted() == [1, NOBODY_ELSE + 1]
        process.kill()
    while near.counted() != [1, NOBODY_ELSE]:  # each asks all processes, and waits 2 s for one that is silent
        pass
