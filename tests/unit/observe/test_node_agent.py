"""The node agent and its journal: exact sums whatever the order, the repeats, the ends and the restarts."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from observe.journal import Journal
from observe.journal_state import Change, JournalState, Record, decode, encode
from observe.node_agent import NodeAgent, Report
from observe.totals import Totals, merge

SENT = ("cluster_messages_sent_total", ("A", "send"))
LIFETIME = ("cluster_entity_lifetime_seconds", ("A",))
LIVE = ("cluster_entities", ("A",))


def counted(sent: int) -> Totals:
    """Totals whose every part follows from one number; quarters add without rounding."""
    return Totals({SENT: sent, LIFETIME: ((sent, 0, 0, 0, 0, 0, 0, 0, 1), sent / 4)})


def report(process: str, sequence: int, sent: int, *, final: bool = False) -> Report:
    """A report with one counter, one histogram and one gauge."""
    gauges = Totals({LIVE: float(sent)})
    return Report(process, sequence, 1000.0, counted(sent), gauges, final=final, pid=77)


def agent_on(path: str | Path = ":memory:", now: float = 5000.0) -> NodeAgent:
    """An agent on a journal, at a fixed time."""
    return NodeAgent(Journal(path), lambda: now)


def test_a_newer_report_takes_the_place_of_the_last_one() -> None:
    """Totals are cumulative: merging is replacing."""
    agent = agent_on()
    assert agent.merge(report("p", 1, 10))
    assert agent.merge(report("p", 2, 30))
    assert agent.totals() == counted(30)
    assert agent.snapshot().value("cluster_messages_sent_total") == 30
    assert agent.snapshot().value("cluster_entities") == 30


def test_a_repeated_or_older_report_changes_nothing() -> None:
    """The network may deliver twice, late and out of order."""
    agent = agent_on()
    agent.merge(report("p", 5, 10))
    assert not agent.merge(report("p", 5, 10))
    assert not agent.merge(report("p", 4, 9))
    assert (agent.totals(), agent.gauges()) == (counted(10), Totals({LIVE: 10.0}))


def test_processes_are_added_up() -> None:
    """The node's sum is that of its processes, gauges as well."""
    agent = agent_on()
    agent.merge(report("p", 1, 10))
    agent.merge(report("q", 1, 5))
    assert agent.totals() == merge([counted(10), counted(5)])
    assert agent.gauges() == {LIVE: 15.0}
    assert agent.processes() == ("p", "q")
    assert agent.pids() == {"p": 77, "q": 77}


def test_an_ended_process_keeps_its_counts_and_loses_its_gauges() -> None:
    """Entities that died with their process are no longer alive; what they did was done."""
    agent = agent_on()
    agent.merge(report("p", 1, 10))
    agent.ended("p")
    agent.ended("p")
    assert agent.totals() == counted(10)
    assert (agent.gauges(), agent.processes(), agent.pids()) == (Totals(), (), {})


def test_a_final_report_is_merged_and_ends_its_process() -> None:
    """The last counts of a process that leaves in good order are in the sum, once."""
    agent = agent_on()
    agent.merge(report("p", 1, 10))
    assert agent.merge(report("p", 2, 12, final=True))
    assert not agent.merge(report("p", 2, 12, final=True))
    assert not agent.merge(report("p", 1, 10))
    agent.ended("p")
    assert (agent.totals(), agent.gauges(), agent.processes()) == (counted(12), Totals(), ())


@pytest.mark.parametrize("final", [False, True])
def test_a_report_that_its_process_end_has_overtaken_is_counted(final: bool) -> None:
    """A process can be seen to exit before its last report arrives: those counts are true all the same."""
    agent = agent_on()
    agent.merge(report("p", 1, 10))
    agent.ended("p")
    assert agent.merge(report("p", 2, 15, final=final))
    assert not agent.merge(report("p", 1, 10))
    assert (agent.totals(), agent.gauges(), agent.processes()) == (counted(15), Totals(), ())


def test_a_process_that_ended_before_its_first_report_never_counts_as_living() -> None:
    """Its counts are in the sum, its gauges are not."""
    agent = agent_on()
    agent.ended("p")
    assert agent.merge(report("p", 1, 10))
    assert (agent.totals(), agent.gauges(), agent.processes()) == (counted(10), Totals(), ())


def test_an_end_is_remembered_however_it_came_and_through_a_restart(tmp_path: Path) -> None:
    """Seen, told by the process itself, or told of one not heard of yet: none of them can begin again."""
    agent = agent_on(tmp_path / "journal")
    agent.merge(report("seen", 1, 10))
    agent.merge(report("living", 1, 10))
    agent.ended("seen")
    agent.merge(report("told", 1, 5, final=True))
    agent.ended("not yet heard of")
    for now in (agent, agent_on(tmp_path / "journal")):
        ended = [
            name for name in ("seen", "living", "told", "not yet heard of", "unknown") if now.has_ended(name)
        ]
        assert ended == ["seen", "told", "not yet heard of"]


def test_many_ended_processes_leave_one_sum_and_a_bounded_list_of_names(tmp_path: Path) -> None:
    """Neither series nor memory nor the file grow with the number of processes that have lived."""
    path = tmp_path / "journal"
    agent = NodeAgent(Journal(path), lambda: 0.0, max_ended=3, max_tombstones=5)
    for number in range(50):
        agent.merge(report(f"p{number}", 1, 1))
        agent.ended(f"p{number}")
    assert agent.totals() == merge([counted(1)] * 50)
    assert not agent.merge(report("p45", 2, 100))
    state = Journal(path).load()
    assert state is not None
    assert [record.process for record in state.records] == ["p47", "p48", "p49"]
    assert state.tombstones == ("p42", "p43", "p44", "p45", "p46")
    assert state.retired == merge([counted(1)] * 47)


@pytest.mark.parametrize(
    "totals",
    [
        Totals({("cluster_unheard_of", ()): 1}),
        Totals({("cluster_messages_sent_total", ("A",)): 1}),
        Totals({SENT: 1.5}),
        Totals({LIFETIME: 3}),
        Totals({LIFETIME: ((1, 2), 1.0)}),
    ],
    ids=repr,
)
def test_a_report_of_what_is_not_declared_is_refused_and_spoils_nothing(totals: Totals) -> None:
    """One malformed report must not make the node's sum impossible."""
    agent = agent_on()
    agent.merge(report("p", 1, 10))
    with pytest.raises(ValueError, match="not a point of any declared metric"):
        agent.merge(Report("p", 2, 0.0, totals))
    assert agent.totals() == counted(10)
    assert agent.merge(report("p", 2, 11))


def test_a_restarted_agent_knows_all_that_it_acknowledged(tmp_path: Path) -> None:
    """Live, ended and retired counts, closed accounts and start time come back; gauges wait for a report."""
    path = tmp_path / "node" / "journal"
    first = agent_on(path, now=5000.0)
    first.merge(report("live", 3, 10))
    first.merge(report("gone", 1, 20))
    first.ended("gone")
    first.merge(report("final", 1, 40, final=True))
    # Not closed: the process was killed.
    second = agent_on(path, now=9000.0)
    assert second.totals() == merge([counted(10), counted(20), counted(40)])
    assert (second.started, second.processes(), second.pids()) == (5000.0, ("live",), {"live": 77})
    assert second.gauges() == Totals()
    assert not second.merge(report("live", 3, 10))
    assert not second.merge(report("final", 9, 99))
    assert not second.merge(report("gone", 1, 20))
    assert second.merge(report("live", 4, 11))
    assert second.gauges() == {LIVE: 11.0}


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    """A process that is killed in the middle of the next write has lost nothing that it acknowledged."""
    path = tmp_path / "journal"
    program = f"""
import os, signal
from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.totals import Totals
journal = Journal({str(path)!r})
agent = NodeAgent(journal, lambda: 1.0)
sent = ("cluster_messages_sent_total", ("A", "send"))
for sequence in range(1, 51):
    assert agent.merge(Report("p", sequence, 0.0, Totals({{sent: sequence}})))
journal._database.execute("BEGIN IMMEDIATE")
journal._database.execute("DELETE FROM record")
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -9
    assert agent_on(path).totals() == {SENT: 50}


def no_database(path: Path) -> None:
    """Put something else in its place."""
    path.write_bytes(b"no database at all" * 100)


def cut_short(path: Path) -> None:
    """Take the end of the file away."""
    path.write_bytes(path.read_bytes()[:5000])


def overwritten(path: Path) -> None:
    """Put rubbish over all pages but the first."""
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def not_json(path: Path) -> None:
    """Spoil one value in a sound database."""
    database = sqlite3.connect(path)
    database.execute("UPDATE record SET totals = '[[1,2'")
    database.commit()
    database.close()


def other_format(path: Path) -> None:
    """A file of a version to come."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    "damage", [no_database, cut_short, overwritten, not_json, other_format], ids=lambda d: d.__name__
)
def test_an_unreadable_journal_is_set_aside_and_counting_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    """The node begins anew, with a new start time, and keeps the old file for whoever wants to look."""
    path = tmp_path / "journal"
    journal = Journal(path)
    NodeAgent(journal, lambda: 1.0).merge(report("p", 1, 10))
    journal.close()
    damage(path)
    damaged = path.read_bytes()
    agent = agent_on(path, now=2.0)
    assert (agent.totals(), agent.started) == (Totals(), 2.0)
    assert agent.merge(report("p", 2, 11))
    assert Path(f"{path}.corrupt").read_bytes()[100:] == damaged[100:]
    assert "is unreadable" in caplog.text
    assert "set aside as" in caplog.text
    assert agent_on(path).totals() == counted(11)


def test_a_place_that_cannot_be_written_leaves_the_node_counting_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No journal is a pity and no reason to fail."""
    (tmp_path / "file").write_text("not a folder")
    agent = agent_on(tmp_path / "file" / "journal")
    assert agent.merge(report("p", 1, 10))
    assert agent.totals() == counted(10)
    assert "kept in memory only" in caplog.text


class FailingJournal(Journal):
    """A journal whose disk can be full for a while."""

    full = False

    def _try(self, step: Callable[[sqlite3.Connection], None]) -> bool:
        if not self.full:
            return super()._try(step)

        def fail(database: sqlite3.Connection) -> None:
            step(database)
            raise sqlite3.OperationalError("database or disk is full")

        return super()._try(fail)


def test_a_full_disk_is_logged_once_and_made_good_by_the_next_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Missed steps, a fold among them, are caught up as a whole: a restart doubles and loses nothing."""
    path = tmp_path / "journal"
    journal = FailingJournal(path)
    agent = NodeAgent(journal, lambda: 1.0)
    agent.merge(report("p", 1, 10))
    agent.merge(report("q", 1, 5))
    journal.full = True
    assert agent.merge(report("p", 2, 20, final=True))
    agent.ended("q")
    assert agent_on(path).totals() == merge([counted(10), counted(5)])
    journal.full = False
    agent.merge(report("r", 1, 1))
    assert agent.totals() == agent_on(path).totals() == merge([counted(20), counted(5), counted(1)])
    assert not agent_on(path).merge(report("p", 3, 30))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "disk is full" in caplog.text


def test_a_journal_found_corrupt_while_it_is_written_is_begun_anew_with_all_that_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent still holds everything: nothing is lost but the old file."""
    path = tmp_path / "journal"
    journal = Journal(path)
    agent = NodeAgent(journal, lambda: 1.0)
    agent.merge(report("p", 1, 10))
    journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwritten(path)
    # Without this the pages that are still cached would hide the damage for a while.
    journal._database.execute("PRAGMA shrink_memory")
    agent.merge(report("q", 1, 5))
    assert agent.totals() == agent_on(path).totals() == merge([counted(10), counted(5)])
    assert os.path.exists(f"{path}.corrupt")
    assert "is unreadable" in caplog.text


def test_a_closed_journal_is_not_taken_for_a_corrupt_one(tmp_path: Path) -> None:
    """A late report after the agent has closed leaves the file where it is."""
    path = tmp_path / "journal"
    journal = Journal(path)
    agent = NodeAgent(journal, lambda: 1.0)
    agent.merge(report("p", 1, 10))
    journal.close()
    agent.merge(report("p", 2, 20))
    assert not os.path.exists(f"{path}.corrupt")
    assert agent_on(path).totals() == counted(10)


def test_a_change_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A fold that fails in its last statement has not taken the record away."""
    journal = FailingJournal(tmp_path / "journal")
    record = Record("p", 1, 0.0, 0, counted(1))
    journal.replace(JournalState(1.0, records=(record,)))
    journal.full = True
    assert not journal.write(Change(folded=("p",), retired=counted(1)))
    assert journal.load() == JournalState(1.0, records=(record,))


def test_totals_read_back_from_the_journal_bit_by_bit() -> None:
    """Sums are not rounded by writing them down, and whole gauges do not become counters."""
    totals = Totals({LIFETIME: ((1, 0, 0, 0, 0, 0, 0, 0, 2), 0.1 + 0.2), LIVE: 3.0, SENT: 2**60})
    restored = decode(encode(totals))
    assert restored == totals
    assert {key: type(value) for key, value in restored.items()} == {LIFETIME: tuple, LIVE: float, SENT: int}


PROCESSES: tuple[str, ...] = ("p", "q", "r", "s")


class ReportsInAnyOrder(RuleBasedStateMachine):
    """Processes report; the network repeats and reorders; ends and agent restarts come at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = dict.fromkeys(PROCESSES, 0)
        self.count = dict.fromkeys(PROCESSES, 0)
        self.sent: list[Report] = []
        self.best: dict[str, Report] = {}
        self.closed: set[str] = set()
        self.ended: set[str] = set()
        self.gauges_known: set[str] = set()

    @initialize()
    def start(self) -> None:
        """One journal, one agent."""
        # One database in memory stands in for the file: each agent after the first reads it anew.
        self.journal = Journal(":memory:")
        self.agent = NodeAgent(self.journal, lambda: 7.0)

    @rule(process=st.sampled_from(PROCESSES), more=st.integers(0, 50), last=st.booleans())
    def report(self, process: str, more: int, last: bool) -> None:
        """A process puts a report on its way; after its final one it is silent."""
        if process in self.closed:
            return
        self.sequence[process] += 1
        self.count[process] += more
        last = last and self.sequence[process] > 2
        self.sent.append(report(process, self.sequence[process], self.count[process], final=last))
        if last:
            self.closed.add(process)

    @rule(pick=st.integers(0, 10**6))
    def deliver(self, pick: int) -> None:
        """Any report ever sent arrives: for the first time, again, or too late."""
        if not self.sent:
            return
        arriving = self.sent[pick % len(self.sent)]
        best = self.best.get(arriving.process)
        newer = best is None or arriving.sequence > best.sequence
        assert self.agent.merge(arriving) is newer
        if newer:
            self.best[arriving.process] = arriving
            self.gauges_known.add(arriving.process)

    @rule(process=st.sampled_from(PROCESSES))
    def end(self, process: str) -> None:
        """The node sees a process exit, before or after its reports arrive; it counts no more."""
        self.closed.add(process)
        self.ended.add(process)
        self.agent.ended(process)

    @rule()
    def restart(self) -> None:
        """The agent dies between two calls and another takes over its journal."""
        self.agent = NodeAgent(self.journal, lambda: 8.0)
        # Gauges are of the moment: they are known again with the next report only.
        self.gauges_known.clear()

    @invariant()
    def sums_are_those_of_the_highest_sequence_of_each(self) -> None:
        """Nothing is counted twice, nothing is lost, to the unit."""
        if not hasattr(self, "agent"):
            return
        assert self.agent.totals() == merge(best.totals for best in self.best.values())
        assert self.agent.started == 7.0
        living = {name for name, best in self.best.items() if not best.final and name not in self.ended}
        assert set(self.agent.processes()) == living
        assert self.agent.gauges() == merge(self.best[name].gauges for name in living & self.gauges_known)


ReportsInAnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_any_interleaving_gives_the_exact_sums = ReportsInAnyOrder.TestCase
