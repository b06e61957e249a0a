"""`cluster-app top`, `entities` and `deactivate` on a whole cluster in memory, on its own clock."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from rich.console import Console

from cluster_app import Entity, HandlerError, cli, entity, message
from cluster_app.commands import top
from cluster_app.testing import MemoryCluster


@entity(name="top.Lorry", max_idle_time=None)
class Lorry(Entity):
    """Carries what is light enough."""

    @message
    def carry(self, tons: int) -> int:
        if tons > 7:
            raise ValueError("too heavy")
        return tons


@entity(name="top.Van", max_idle_time=None)
class Van(Entity):
    """Is only looked at."""

    @message
    def honk(self) -> None: ...


class Steps:
    """What happens in each interval that `top` waits for; Ctrl-C comes after the last."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.todo: list[Callable[[], object]] = []
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        if not self.todo:
            raise KeyboardInterrupt
        self.todo.pop(0)()
        self.cluster.clock.advance(seconds)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """A cluster that the command line joins, and whose clock is the one that `top` waits by."""
    with MemoryCluster(runners=2) as cluster:
        cluster.entity(Van, "v").honk.remote().result(30)
        found = Steps(cluster)
        monkeypatch.setattr(top, "sleep", found.sleep)
        monkeypatch.setattr(top, "monotonic", cluster.clock.now)
        monkeypatch.setattr("cluster_app.commands.connection._join", lambda *_, namespace: cluster)
        yield found


def drive(cluster: MemoryCluster, lorry: str, times: int, tons: int = 1) -> None:
    """Send so many messages and wait for them."""
    for _ in range(times):
        try:
            cluster.entity(Lorry, lorry).carry.remote(tons).result(30)
        except HandlerError:
            assert tons > 7


def test_top_tells_programs_what_happened_in_one_interval(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates of what was received and failed between two looks, latency, hot entities, and the whole status."""
    drive(steps.cluster, "before", 100)

    def work() -> None:
        drive(steps.cluster, "a", 30)
        drive(steps.cluster, "b", 10, tons=8)

    steps.todo.append(work)
    assert cli.run(["top", "--once", "--json", "--interval", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert steps.waited == [2.0]
    assert told["seconds"] == 2.0
    assert told["messages_per_s"] == 20.0
    lorry, van = told["types"]
    assert lorry == {
        **{"type": "top.Lorry", "live": 3, "messages_per_s": 20.0, "errors_per_s": 5.0},
        **{"p50_s": lorry["p50_s"], "p99_s": lorry["p99_s"]},
    }
    assert 0 < lorry["p50_s"] <= lorry["p99_s"] <= 0.0001  # the stepped clock stood still: the first bucket
    assert van == {
        **{"type": "top.Van", "live": 1, "messages_per_s": 0.0, "errors_per_s": 0.0},
        **{"p50_s": None, "p99_s": None},
    }
    assert [(hot["type"], hot["id"]) for hot in told["hot"][:3]] == [
        ("top.Lorry", "before"),
        ("top.Lorry", "a"),
        ("top.Lorry", "b"),
    ]
    assert (len(told["runners"]), told["shards"]) == (2, 300)


def test_top_tells_programs_of_every_interval_until_ctrl_c(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object a line, each of its own interval."""
    steps.todo += [partial(drive, steps.cluster, "a", number) for number in (1, 2, 3)]
    assert cli.run(["top", "--json"]) == 130
    rates = [json.loads(line)["messages_per_s"] for line in capsys.readouterr().out.splitlines()]
    assert rates == [1.0, 2.0, 3.0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_falls_into_a_destructor_ends_top_all_the_same(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """There Python prints the KeyboardInterrupt and forgets it."""

    class Interrupted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupt() -> None:
        Interrupted()

    steps.todo += [lambda: None, interrupt, lambda: pytest.fail("goes on")]
    assert cli.run(["top", "--json"]) == 130
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_top_shows_people_tables(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal: once, wide enough to be read whole; an id is never taken for markup."""
    steps.todo.append(lambda: drive(steps.cluster, "[red]a", 30))
    assert cli.run(["top", "--once"]) == 0
    out = capsys.readouterr().out
    for text in ("30 messages/s", "2 of 2 runners healthy", "top.Lorry/[red]a", "p99", "memory-2", "term 1"):
        assert text in out


def test_top_leaves_the_terminal_as_it_was(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws on a screen of its own, and Ctrl-C gives screen and cursor back."""
    terminal = io.StringIO()
    monkeypatch.setattr(
        top, "screen", lambda: Console(file=terminal, force_terminal=True, width=140, height=40)
    )
    steps.todo += [lambda: drive(steps.cluster, "a", 5)] * 2
    assert cli.run(["top"]) == 130
    drawn = terminal.getvalue()
    assert "top.Lorry/a" in drawn
    for on, off in (("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")):
        assert drawn.count(on) == drawn.count(off) == 1
        assert drawn.index(on) < drawn.index("top.Lorry/a") < drawn.index(off)


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--interval", "soon"], ["extra"]])
def test_top_refuses_a_wrong_command_line(arguments: list[str]) -> None:
    """Exit code 2, before anything is joined."""
    assert cli.run(["top", *arguments]) == 2


def test_a_node_that_left_with_its_counts_is_no_negative_rate(steps: Steps) -> None:
    """What has shrunk says nothing about the interval; the rest does."""
    from cluster_app.activity import activity_between
    from observe.snapshot import MetricsSnapshot
    from observe.totals import Totals

    received = "cluster_messages_received_total"
    before = MetricsSnapshot(Totals({(received, ("A", "send")): 100, (received, ("B", "send")): 7}))
    after = MetricsSnapshot(Totals({(received, ("A", "send")): 60, (received, ("B", "send")): 9}))
    found = activity_between(before, after, steps.cluster.status(), 1.0)
    assert {each.type: each.messages_per_s for each in found.types} == {"B": 2.0, "top.Van": 0.0}


def test_entities_lists_ids(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    """Sorted, one a line; as JSON with its type; at most as many as wanted."""
    for name in ("c", "a", "b"):
        drive(steps.cluster, name, 1)
    assert cli.run(["entities", "top.Lorry"]) == 0
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_entities_tells_programs(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    """One object, at most as many ids as wanted."""
    for name in ("c", "a", "b"):
        drive(steps.cluster, name, 1)
    assert cli.run(["entities", "top.Lorry", "--json", "--limit", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], len(told["ids"])) == ("top.Lorry", 2)
    assert set(told["ids"]) < {"a", "b", "c"}


@pytest.mark.parametrize(
    ("name", "said", "deactivated"),
    [("a", "top.Lorry/a is let go", True), ("b", "top.Lorry/b did not live", False)],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_deactivate_lets_one_go(
    steps: Steps, capsys: pytest.CaptureFixture[str], name: str, said: str, deactivated: bool, as_json: bool
) -> None:
    """And says whether it lived; either is a success."""
    drive(steps.cluster, "a", 1)
    assert cli.run(["deactivate", "top.Lorry", name, *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out) == {"type": "top.Lorry", "id": name, "deactivated": deactivated}
    else:
        assert out == f"{said}\n"


@pytest.mark.parametrize("command", [["entities", "top.Lory"], ["deactivate", "top.Lory", "a"]])
def test_a_type_that_is_not_registered_is_one_line_and_a_hint(
    steps: Steps, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """It names those that are."""
    assert cli.run(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: no entity type top.Lory is registered\nhint: registered: top.Van\n"


def test_an_id_that_cannot_be_one_is_a_wrong_command_line(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2."""
    assert cli.run(["deactivate", "top.Van", ""]) == 2
    assert "must not be empty" in capsys.readouterr().err
