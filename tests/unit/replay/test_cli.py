"""The command line: output, exit codes, and errors of one line with a hint."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster_app import ClusterConfig, DrainRefused, DrainResult, DrainTimeout, cli
from cluster_app.silent_service import SilentService
from cluster_app.status import TelemetryStatus
from tests.unit.replay import flights
from tests.unit.replay.fake_cluster import FakeCluster

FLEET = "tests.unit.replay.fleet"


class Connected(FakeCluster):
    """A fake that notes how it was reached."""

    asked: tuple[str | None, str] | None = None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Connected:
    """What `cluster_app.connect` returns."""
    cluster = Connected()

    def connect(address: str | None = None, *, namespace: str = "cluster_app") -> Connected:
        cluster.asked = (address, namespace)
        return cluster

    monkeypatch.setattr("cluster_app.connect", connect)
    monkeypatch.setattr("cluster_app.commands.connection._join", connect)
    return cluster


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, with the path as a console script finds it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_replay_prints_one_json_object_and_nothing_else(
    fake: Connected, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is the object; what a process of the cluster prints goes elsewhere."""
    (here / "a.csv").write_text("id,km\na,1\na,far\n")
    arguments = ["replay", "a.csv", "--entity", f"{FLEET}:Car", "--key", "id", "--message", "drive", "--json"]
    assert cli.run(arguments) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == [
        *("rows", "rejected", "messages", "replies", "errors", "entities", "activations"),
        *("messages_per_s", "latency_ms", "verified"),
    ]
    assert "rejected line 3: km: 'far' is not a float" in err
    assert fake.closed


def test_replay_prints_a_table(fake: Connected, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: rates, latency, entities that came and went, errors by type."""
    (here / "a.csv").write_text("id,km\na,1\na,-1\n")
    assert cli.run(["replay", "a.csv", "--entity", f"{FLEET}:Car", "--key", "id", "--message", "drive"]) == 0
    out = capsys.readouterr().out
    for word in (
        "messages/s",
        "latency p50",
        "latency p99",
        "activations Car",
        "deactivations Car",
        "HandlerError",
    ):
        assert word in out


def test_replay_flights_verifies(
    fake: Connected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 when every total agrees, and states on demand."""
    monkeypatch.setattr("cluster_app.commands.replay.find_flights", lambda: flights.flights_file(tmp_path))
    states = tmp_path / "states.jsonl"
    assert cli.run(["replay", "flights", "--json", "--state-out", str(states)]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True
    told = {(s["type"], s["id"]): s["state"] for s in map(json.loads, states.read_text().splitlines())}
    assert len(told) == 8
    assert told["Aircraft", "N1"]["miles"] == 2119
    assert told["Airport", "LGA"]["cancellations"] == 2


def test_replay_flights_fails_on_a_mismatch(
    fake: Connected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the object all the same, and the first differences by name."""
    monkeypatch.setattr("cluster_app.commands.replay.find_flights", lambda: flights.flights_file(tmp_path))
    monkeypatch.setattr("entities.catalog.Aircraft.fly", _fly_and_forget)
    assert cli.run(["replay", "flights", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verified"] is False
    assert "differs: Aircraft N1 flights: the cluster has 0, the file 2" in err
    assert "error: 9 totals differ from the file's\nhint: " in err


def _fly_and_forget(self: Any, *facts: Any) -> int:
    return 0


@pytest.mark.parametrize(
    ("arguments", "problem", "exit_code"),
    [
        (
            ["replay", "none.csv", "--entity", f"{FLEET}:Car", "--key", "id", "--message", "drive"],
            "no file none.csv",
            1,
        ),
        (
            ["replay", "a.csv", "--entity", f"{FLEET}:Car", "--key", "ID", "--message", "drive"],
            "no column ID",
            1,
        ),
        (
            ["replay", "a.csv", "--entity", f"{FLEET}:Cat", "--key", "id", "--message", "drive"],
            "no class Cat",
            1,
        ),
        (
            ["replay", "a.csv", "--entity", "cars:Car", "--key", "id", "--message", "drive"],
            "no module cars",
            1,
        ),
        (
            ["replay", "a.csv", "--entity", f"{FLEET}:Car", "--key", "id"],
            "needs --entity, --key and --message",
            2,
        ),
        (
            ["replay", "a.csv", "--entity", "Car", "--key", "id", "--message", "drive"],
            "is not module:Class",
            2,
        ),
        (["replay", "flights", "--entity", "a:B"], "flights has entities of its own", 2),
        (["replay", "a.csv", "--rejects", "a.csv"], "a.csv is what is replayed", 2),
        (["replay", "a.csv", "--limit", "many"], "--limit", 2),
        (["replay"], "argument", 2),
        (["drain", "x", "--timeout-s", "0"], "--timeout-s", 2),
        (["fly"], "fly", 2),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    fake: Connected,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    problem: str,
    exit_code: int,
) -> None:
    """Before anything is connected to; 2 for a wrong command line, else 1."""
    (here / "a.csv").write_text("id,km\na,1\n")
    assert cli.run(arguments) == exit_code
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert problem in lines[0]
    assert lines[1].startswith("hint: ")
    assert fake.asked is None


def test_modules_of_the_current_folder_count(
    fake: Connected, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's module lies beside the data, where a console script would not look."""
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    (here / "my_meters.py").write_text(
        "from entities import Entity, entity, message\n"
        "@entity()\n"
        "class Meter(Entity):\n"
        "    def __init__(self):\n        self.kwh = 0.0\n"
        "    @message\n"
        "    def read_out(self, kwh: float):\n        self.kwh += kwh\n"
    )
    (here / "a.csv").write_text("id,kwh\nm,1.5\n")
    assert (
        cli.run(["replay", "a.csv", "--entity", "my_meters:Meter", "--key", "id", "--message", "read_out"])
        == 0
    )


def test_status_is_told_to_programs_as_json(
    fake: Connected, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It joins a Ray that runs and starts none."""
    monkeypatch.setattr(fake, "status", lambda: SimpleNamespace(as_dict=lambda: {"shards": 300}))
    assert cli.run(["status", "--json", "--namespace", "other"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shards": 300}
    assert fake.asked == (None, "other")


def test_status_is_told_to_people_as_tables(
    fake: Connected, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runners, entities and the coordinator."""
    status = SimpleNamespace(
        runners=[
            SimpleNamespace(
                id="r1", node_id="n1", pid=11, healthy=False, shards=300, entities=1_234, lane="ray"
            )
        ],
        entities={"Counter": 1_234},
        shards=300,
        singletons=["Clock"],
        coordinator=SimpleNamespace(pid=10, term=7),
        version="0.1",
        telemetry=[
            TelemetryStatus("n1", "otlp_proto_grpc", "http://collector:4317", 0, None, 17, 3, "refused")
        ],
    )
    monkeypatch.setattr(fake, "status", lambda: status)
    assert cli.run(["status"]) == 0
    out = capsys.readouterr().out
    told = ("http://collector:4317", "never", "17", "refused")
    for word in ("r1", "NO", "1,234", "Counter", "term 7", "Clock", *told):
        assert word in out


def test_down_removes_the_cluster(fake: Connected, capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves Ray alone."""
    assert cli.run(["down", "--address", "auto"]) == 0
    assert (fake.down, fake.asked) == (True, ("auto", "cluster_app"))
    assert capsys.readouterr().out == "cluster cluster_app is down\n"
    assert cli.run(["down", "--namespace", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"namespace": "other", "down": True}


def test_drain_tells_how_many_shards_moved(
    fake: Connected, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To people in a line, to programs as one object; the time to wait is passed on."""
    asked: list[tuple[str, float]] = []

    def drain(target: str, *, timeout_s: float) -> DrainResult:
        asked.append((target, timeout_s))
        return DrainResult("runner-1", ("runner-1",), 150, 0.25)

    monkeypatch.setattr(fake, "drain", drain, raising=False)
    assert cli.run(["drain", "run", "--timeout-s", "5"]) == 0
    assert capsys.readouterr().out == "runner-1: 150 shards moved in 0.25 s (runner-1)\n"
    assert cli.run(["drain", "run", "--json"]) == 0
    told = {"target": "runner-1", "runners": ["runner-1"], "shards": 150, "seconds": 0.25}
    assert json.loads(capsys.readouterr().out) == told
    assert asked == [("run", 5.0), ("run", 60.0)]


def test_a_drained_node_is_taken_back(
    fake: Connected, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --undo nothing is drained."""
    asked: list[str] = []
    monkeypatch.setattr(fake, "undrain", asked.append, raising=False)
    assert cli.run(["drain", "node-1", "--undo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"target": "node-1", "undone": True}
    assert asked == ["node-1"]


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (DrainRefused("nobody could take them"), "error: nobody could take them\nhint: cluster-app status"),
        (ValueError("no node or runner 'x'"), "error: no node or runner 'x'\nhint: cluster-app status"),
        (DrainTimeout("r1", 5.0, {"r1": 2}, ["Car/a.drive"]), "there run: Car/a.drive. The drain goes on"),
    ],
)
def test_a_drain_that_fails_says_why_and_what_to_do(
    fake: Connected,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refusal: Exception,
    told: str,
) -> None:
    """One line and a hint, exit code 1, nothing on standard output."""

    def drain(target: str, *, timeout_s: float) -> DrainResult:
        raise refusal

    monkeypatch.setattr(fake, "drain", drain, raising=False)
    assert cli.run(["drain", "x"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err
    assert "\nhint: " in said.err


def test_without_a_ray_status_and_down_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start none of their own."""

    def connect(*args: Any, **named: Any) -> Any:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify one.")

    monkeypatch.setattr("cluster_app.commands.connection._join", connect)
    for command in ("status", "down"):
        assert cli.run([command]) == 1
        assert capsys.readouterr().err == (
            "error: no Ray can be reached here: Could not find any running Ray instance.\n"
            "hint: give --address, or start one: ray start --head\n"
        )


def test_the_hint_for_a_wrong_command_line_is_that_commands_own_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The page of all commands has nothing of its arguments."""
    assert cli.run(["drain"]) == 2
    assert capsys.readouterr().err.endswith("hint: cluster-app drain --help\n")


def test_a_cluster_that_does_not_answer_is_not_taken_for_a_missing_ray(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an outage, that difference is what one wants to know."""

    def connect(*args: Any, **named: Any) -> Any:
        raise SilentService("the coordinator does not answer: timed out")

    monkeypatch.setattr("cluster_app.commands.connection._join", connect)
    assert cli.run(["status", "--namespace", "other"]) == 1
    assert capsys.readouterr().err == (
        "error: the cluster in namespace other is there and does not answer: "
        "the coordinator does not answer: timed out\n"
        "hint: ray list actors shows whether its coordinator lives\n"
    )


def test_a_variable_that_names_no_ray_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not said on the command line is easily overlooked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cli.run(["status"]) == 1
    assert f"error: no Ray can be reached at {address}, which RAY_ADDRESS names: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("abc", "CLUSTER_APP_LEASE_S=abc: Input should be a valid number"),
        ("0.1", "guard_s (0.1) must be less than lease_s (0.1)"),
    ],
)
def test_a_variable_without_a_meaning_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    """With its name and its value; nothing was started."""
    monkeypatch.setenv("CLUSTER_APP_LEASE_S", value)
    monkeypatch.setattr("cluster_app.commands.connection._join", lambda *args, **named: ClusterConfig())
    assert cli.run(["status"]) == 1
    problem, hint = capsys.readouterr().err.splitlines()
    assert problem.startswith("error: ") and says in problem
    assert hint.startswith("hint: ")


def test_an_address_where_nobody_listens_is_told_at_once(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    """Ray itself would try for more than a minute."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    (here / "a.csv").write_text("id,km\na,1\n")
    own = ["a.csv", "--entity", f"{FLEET}:Car", "--key", "id", "--message", "drive"]
    for command in (["status"], ["down"], ["drain", "x"], ["replay", *own]):
        assert cli.run([*command, "--address", address]) == 1
        assert f"error: no Ray can be reached at {address}: " in capsys.readouterr().err


def test_without_a_cluster_status_and_down_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a Ray, and no service on it: none is started to be looked at."""
    monkeypatch.setattr("cluster_app.commands.connection._join", lambda *args, **named: None)
    for command in ("status", "down"):
        assert cli.run([command, "--namespace", "other"]) == 1
        assert capsys.readouterr().err == (
            "error: no cluster runs in namespace other of this Ray\n"
            "hint: cluster_app.connect() starts one; --namespace and --address name another\n"
        )


def test_an_unexpected_error_is_one_line_too(
    fake: Connected, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hint on how to see where it came from."""

    def broken() -> Any:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(fake, "status", broken)
    assert cli.run(["status"]) == 1
    assert capsys.readouterr().err == (
        "error: RuntimeError: first line\nhint: CLUSTER_APP_TRACEBACK=1 shows where\n"
    )
    monkeypatch.setenv("CLUSTER_APP_TRACEBACK", "1")
    assert cli.run(["status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_exit_code_130(fake: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells have it."""

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "status", interrupted)
    assert cli.run(["status"]) == 130
