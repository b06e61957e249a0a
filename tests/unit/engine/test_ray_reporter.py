"""A process's last report: agents that are away, come back or never do. Agent, names and clock are the test's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from cluster_app import ray_reporter
from cluster_app.ray_calls import COORDINATOR, agent_name
from cluster_app.ray_reporter import Reporter
from observe.instruments import cluster
from observe.recorder import Recorder
from observe.report import Report


class FakeAgent:
    """Takes reports; its first calls fail, or are never answered.

    :ivar reports: those that reached it, answered or not.
    """

    def __init__(self, *, fails: int = 0, silent: int = 0) -> None:
        self.reports: list[Report] = []
        self._fails = fails
        self._silent = silent
        self.report = self

    def remote(self, report: Report, generation: int) -> SimpleNamespace:
        """As of an actor's method."""
        answer: Future[int] = Future()
        if self._fails:
            self._fails -= 1
            answer.set_exception(ActorUnavailableError("it restarts", None))
        else:
            self.reports.append(report)
            if self._silent:
                self._silent -= 1
            else:
                answer.set_result(generation)
        return SimpleNamespace(future=lambda: answer)


class Situation:
    """One reporter on a node.

    :ivar named: what a name leads to, one after the other; the last one stays.
    :ivar now: the clock, which waiting moves.
    :ivar wanted: how often the coordinator was asked for an agent.
    :ivar meanwhile: what happens while somebody is looked up next.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.wanted = 0
        self.meanwhile: Callable[[], object] = lambda: None
        ask: Any = SimpleNamespace(remote=self._asked)
        self.named: dict[str, list[Any]] = {
            COORDINATOR: [SimpleNamespace(wanted=ask)],
            agent_name("n1"): [None],
        }
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass, time=lambda: 1.7e9)
        context = SimpleNamespace(get_job_id=lambda: "job")
        monkeypatch.setattr(ray_reporter, "time", clock)
        monkeypatch.setattr(ray_reporter, "here", lambda: "n1")
        monkeypatch.setattr(ray_reporter, "find_actor", self._find)
        monkeypatch.setattr(ray_reporter, "wait_for", self._wait_for)
        monkeypatch.setattr("ray.get_runtime_context", lambda: context)
        self.recorder = Recorder()
        self.recorder.counter(cluster.redeliveries, entity_type="T", reason="RunnerUnavailable").value += 7
        self.flushed: list[BaseException | None] = []
        self.reporter = Reporter("spaces", "sender-1", self.recorder, self._flush)

    def agents(self, *agents: FakeAgent | None) -> None:
        """Whom the agent's name leads to."""
        self.named[agent_name("n1")] = list(agents)

    def _flush(self) -> None:
        for error in self.flushed:
            if error is not None:
                raise error

    def _asked(self, node_id: str) -> None:
        assert node_id == "n1"
        self.wanted += 1

    def _find(self, name: str, namespace: str) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        left = self.named[name]
        return left.pop(0) if len(left) > 1 else left[0]

    def _pass(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def _wait_for(self, reference: Any, timeout_s: float) -> Any:
        answer = reference.future()
        if not answer.done():
            self._pass(timeout_s)
            raise TimeoutError
        return answer.result()


@pytest.fixture
def situation(monkeypatch: pytest.MonkeyPatch) -> Situation:
    """The node has no agent, and the service lives."""
    return Situation(monkeypatch)


def counted(report: Report) -> Any:
    """What a report says was sent again."""
    return {name: value for (name, _), value in report.totals.items()}.get("cluster_redeliveries_total")


def test_the_last_report_reaches_an_agent_that_was_restarting(situation: Situation) -> None:
    """It is found anew each time, and told the same thing."""
    restarting, successor = FakeAgent(fails=9), FakeAgent()
    situation.agents(restarting, None, restarting, successor)
    situation.reporter.end()
    (report,) = successor.reports
    assert report.final and counted(report) == 7 and restarting.reports == []
    assert situation.now < 101.0


def test_an_agent_that_is_slow_to_answer_gets_the_same_report_again(situation: Situation) -> None:
    """By its number it knows that it has it."""
    slow = FakeAgent(silent=1)
    situation.agents(slow)
    situation.reporter.end()
    first, second = slow.reports
    assert first is second


def test_a_node_that_has_no_agent_any_more_is_given_one(situation: Situation) -> None:
    """The coordinator is asked for it, as by every report that finds none."""
    late = FakeAgent()
    situation.agents(*[None] * 20, late)
    situation.reporter.end()
    assert situation.wanted and len(late.reports) == 1


def test_a_report_that_was_about_to_be_made_does_not_overtake_the_last_one(situation: Situation) -> None:
    """The process ends right after it has begun: its reporter's thread is just looking for the agent."""
    agent = FakeAgent()
    situation.agents(agent)
    situation.meanwhile = situation.reporter.end
    situation.reporter._run()
    assert [(report.final, counted(report)) for report in agent.reports] == [(True, 7)]


def test_an_agent_that_never_comes_is_not_waited_for_longer_than_that(situation: Situation) -> None:
    """The process wants to end."""
    situation.reporter.end()
    assert 104.5 < situation.now < 106.0


def test_without_a_service_nobody_is_waited_for(situation: Situation) -> None:
    """It has been shut down: then nobody counts."""
    situation.named[COORDINATOR] = [None]
    situation.reporter.end()
    assert situation.now == 100.0


def test_what_cannot_be_flushed_does_not_take_the_rest_along(
    situation: Situation, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in the recorder by then is told, and the log says what is missing."""
    agent = FakeAgent()
    situation.agents(agent)
    situation.flushed.append(TimeoutError("the loop stands still"))
    situation.reporter.end()
    (report,) = agent.reports
    assert report.final and counted(report) == 7
    assert "sender-1 may not have told" in caplog.text
