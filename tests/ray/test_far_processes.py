"""An agent is killed while a process of its runner's lives on another node: its successor still sees to its end.

Two agents of two nodes that there are not, both on the one there is: what they do to each other is the same. Their
coordinator only writes down what it is told. Runner and process are two that sleep.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayError

from cluster_app.process_start import process_start
from cluster_app.ray_agent import AgentActor
from cluster_app.ray_calls import COORDINATOR, agent_name
from observe.report import Report
from observe.totals import Totals

pytestmark = pytest.mark.ray

HERE, THERE = "a" * 56, "b" * 56
RUNNER, PROCESS = "runner-aaaaaaaa-1", "runner-aaaaaaaa-1/1"
LENT_S = 50.0  # what ends with the loan ends too late for these tests


def runs(pid: int) -> bool:
    """Whether that process has not ended; a zombie has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@ray.remote(num_cpus=0)
class ToldCoordinator:
    """Hears of ends.

    :param pid: of the process on the other node.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._told: dict[str, bool] = {}

    def hello(self) -> None:
        """An agent prepares itself."""

    def proven_dead(self, process: str) -> None:
        """Note whether the far process ran even then."""
        self._told.setdefault(process, runs(self._pid))

    def told(self) -> dict[str, bool]:
        """By what has been proven dead: whether the far process still ran."""
        return self._told


class Pair:
    """Both agents, the runner on one node and its process on the other."""

    def __init__(self) -> None:
        self.namespace = f"tests-{uuid.uuid4().hex[:8]}"
        self.runner, self.process = (subprocess.Popen(["sleep", "300"]) for _ in range(2))
        coordinators: Any = ToldCoordinator
        self.coordinator = coordinators.options(name=COORDINATOR, namespace=self.namespace).remote(
            self.process.pid
        )
        self.here, self.there = self._agent(HERE), self._agent(THERE)
        self.ask(self.here.watch, RUNNER, self.runner.pid)
        report = Report(RUNNER, 0, time.time(), Totals(), pid=self.runner.pid)
        self.ask(self.here.report, report, 0)
        pid = self.process.pid
        for agent in (self.here, self.there):  # as its owner does before the process begins
            assert self.ask(agent.admit, PROCESS, pid, process_start(pid), THERE)

    def _agent(self, node_id: str) -> Any:
        agents: Any = AgentActor
        return agents.options(
            name=agent_name(node_id),
            namespace=self.namespace,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100,
        ).remote(self.namespace, node_id, 0.1, LENT_S)

    @staticmethod
    def ask(method: Any, *args: Any) -> Any:
        return ray.get(method.remote(*args), timeout=30)

    def kill_agent(self) -> None:
        """That of the runner's node; Ray starts it again."""
        os.kill(self.ask(self.here.pid), signal.SIGKILL)

    def next_agent(self) -> None:
        """Wait for its successor, which looks back."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask(self.here.ready)
                return
            except RayError:
                assert time.monotonic() < deadline, "no other agent"

    def told_dead(self) -> bool:
        """Whether the far process ran when its owner was proven dead."""
        deadline = time.monotonic() + 30
        while RUNNER not in (told := self.ask(self.coordinator.told)):
            assert time.monotonic() < deadline, "nobody has told it"
        return bool(told[RUNNER])

    def end(self) -> None:
        """Leave nothing."""
        for agent in (self.here, self.there):
            self.ask(agent.forget)
        for actor in (self.here, self.there, self.coordinator):
            ray.kill(actor)
        for process in (self.runner, self.process):
            process.kill()
            process.wait()


@pytest.fixture
def pair(ray_instance: None) -> Iterator[Pair]:
    """A runner here and its process there."""
    pair = Pair()
    yield pair
    pair.end()


def test_a_runner_that_dies_after_its_agent_counts_as_dead_when_its_far_process_has_ended(pair: Pair) -> None:
    """The agent's successor knows of it, has it ended, and says nothing before."""
    pair.kill_agent()
    pair.next_agent()
    pair.runner.kill()
    assert not pair.told_dead()


def test_a_runner_that_dies_while_its_agent_is_away_counts_as_dead_no_sooner(pair: Pair) -> None:
    """What the successor finds out when it looks back has its far processes too."""
    pair.kill_agent()
    pair.runner.kill()
    pair.next_agent()
    assert not pair.told_dead()


def test_its_owner_hears_that_a_far_process_is_buried_when_it_has_ended(pair: Pair) -> None:
    """Only then does it start another one for that entity; the successor of its agent does not say so before."""
    pair.kill_agent()
    pair.next_agent()
    assert runs(pair.process.pid)
    pair.ask(pair.here.bury, PROCESS, 0.0)
    assert not runs(pair.process.pid)
