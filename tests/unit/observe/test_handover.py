"""A node's account is closed and handed over: its sum counts once, whoever dies in between and whatever is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.totals import Totals, merge
from tests.unit.observe.test_node_agent import FailingJournal, agent_on, counted, report


def left_with(path: Path, sent: int = 10) -> NodeAgent:
    """An agent whose two processes have ended, one of them without a last report."""
    agent = agent_on(path)
    agent.merge(report("p", 1, sent, final=True))
    agent.merge(report("q", 1, sent))
    agent.ended("q")
    return agent


def test_the_whole_sum_is_handed_over(tmp_path: Path) -> None:
    """As the last report of one process; merged elsewhere it adds up, and a repeat changes nothing."""
    account = left_with(tmp_path / "there").hand_over("node-1")
    assert account == Report("node-1", 0, 5000.0, merge([counted(10)] * 2), Totals(), final=True)
    assert account is not None
    head = agent_on(tmp_path / "head")
    head.merge(report("r", 1, 5))
    assert head.merge(account)
    assert not head.merge(account)
    assert head.totals() == merge([counted(5), counted(10), counted(10)])
    assert agent_on(tmp_path / "head").totals() == head.totals()
    assert not agent_on(tmp_path / "head").merge(account)
    assert head.processes() == ("r",)


def test_a_closed_account_takes_nothing_more(tmp_path: Path) -> None:
    """A report is refused aloud, not acknowledged and lost."""
    agent = left_with(tmp_path / "there")
    assert agent.hand_over("node-1") is not None
    assert not agent.open
    with pytest.raises(ValueError, match="the node's account is closed"):
        agent.merge(report("late", 1, 1))
    assert agent.totals() == merge([counted(10)] * 2)


def test_the_next_agent_hands_the_same_over_again(tmp_path: Path) -> None:
    """One that finds the journal of an agent that died half-way; the first name stands, so it counts once."""
    account = left_with(tmp_path / "there").hand_over("node-1")
    again = agent_on(tmp_path / "there")
    assert not again.open
    assert again.hand_over("another name") == account


def test_an_account_in_use_stays_open(tmp_path: Path) -> None:
    """A living process would report into the void."""
    agent = left_with(tmp_path / "there")
    agent.merge(report("alive", 1, 1))
    assert agent.hand_over("node-1") is None
    agent.merge(report("alive", 2, 2, final=True))
    account = agent.hand_over("node-1")
    assert account is not None
    assert account.totals == merge([counted(10), counted(10), counted(2)])


def test_an_account_that_cannot_be_noted_as_closed_stays_open(tmp_path: Path) -> None:
    """Else the next agent would count on, with what was handed over already."""
    journal = FailingJournal(tmp_path / "there")
    agent = NodeAgent(journal, lambda: 1.0)
    agent.merge(report("p", 1, 10, final=True))
    journal.full = True
    assert agent.hand_over("node-1") is None
    journal.full = False
    assert agent.hand_over("node-1") is not None
    assert Journal(tmp_path / "there").handed_over() == "node-1"
