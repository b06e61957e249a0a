"""``cluster-app replay`` on a real Ray: the flights, the user's own rows and own class, states, a planted fault."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster_app import Cluster, cli
from cluster_app.ray_calls import COORDINATOR, find_actor
from cluster_app.replay.flight_messages import FlightMessages
from cluster_app.replay.flights_file import find_flights
from entities.catalog import Aircraft, Airport

pytestmark = pytest.mark.ray

ROWS = 3_000
SENSOR = """
import threading
from entities import Entity, entity, message


class Reading:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Reading({self.value})"


@entity()
class Sensor(Entity):
    def __init__(self) -> None:
        self.count = 0
        self.last = None
        self.lock = threading.Lock()
        self._calibration = 1.0

    @message
    def measure(self, value: float, unit: str = "C") -> int:
        if value < -273.15:
            raise ValueError("colder than cold")
        self.count += 1
        self.last = Reading(value)
        return self.count
"""


def flights_by_hand() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Messages by method, and sums by (id, attribute), of the first rows: counted with csv alone."""
    messages: Counter[str] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    with find_flights().open() as lines:
        for row in islice(csv.DictReader(lines), ROWS):
            if row["dep_time"] in ("", "NA"):
                messages["cancelled"] += 1
                sums[row["origin"], "cancellations"] += 1
                continue
            arrived = row["arr_time"] not in ("", "NA")
            messages.update(("fly", "departed", "arrived" if arrived else "diverted"))
            sums[row["tailnum"], "flights"] += 1
            sums[row["tailnum"], "miles"] += int(row["distance"])
            sums[row["origin"], "departures"] += 1
            sums[row["dest"], "arrivals" if arrived else "diversions"] += 1
    return messages, sums


def states_in(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What `--state-out` wrote, by type and id."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(list(line) == ["type", "id", "state"] for line in lines)
    told = {(line["type"], line["id"]): line["state"] for line in lines}
    assert len(told) == len(lines)
    return told


def replay_own(folder: Path, namespace: str, *arguments: str, rows: str = "") -> tuple[dict[str, Any], str]:
    """Run the command as a user does, from a folder whose module no runner can import."""
    module = folder / "sensors_of_mine.py"
    if not module.exists():
        module.write_text(SENSOR)
    address = ray.get_runtime_context().gcs_address
    # A console script's path starts at its own folder, not at the current one: so no -m here.
    program = "import sys; sys.path.remove(''); from cluster_app.cli import main; main()"
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "replay", *arguments),
            *("--entity", "sensors_of_mine:Sensor", "--key", "sensor", "--message", "measure"),
            *("--json", "--address", address, "--namespace", namespace),
        ],
        cwd=folder,
        input=rows,
        capture_output=True,
        text=True,
        timeout=50,
    )
    summary: dict[str, Any] = json.loads(done.stdout or "{}")
    assert done.returncode == (0 if summary else 1), done.stderr
    return summary, done.stderr


def test_the_flights_are_fed_verified_and_told(
    file_cluster: Cluster, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every field of the one object, and every state, agree with a count by hand; so does a second run's growth."""
    messages, sums = flights_by_hand()
    out, rejects = tmp_path / "states.jsonl", tmp_path / "rejects.jsonl"
    command = [
        "replay",
        "flights",
        "--limit",
        str(ROWS),
        "--json",
        "--rejects",
        str(rejects),
        "--namespace",
        namespace,
    ]
    before = {(kind, id_): state for kind in (Aircraft, Airport) for id_, state in file_cluster.states(kind)}
    assert before == {}, "this test comes first on the file's cluster"

    assert cli.run([*command, "--state-out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    states = states_in(out)
    live = {"Aircraft": 0, "Airport": 0} | Counter(kind for kind, _ in states)
    assert told.pop("messages_per_s") > 0
    latency = told.pop("latency_ms")
    assert list(latency) == ["p50", "p99"]
    assert 0 < latency["p50"] <= latency["p99"]
    assert told == {
        "rows": ROWS,
        "rejected": 0,
        "messages": messages.total(),
        "replies": messages.total(),
        "errors": {},
        "entities": live,
        "activations": live,
        "verified": True,
    }
    assert rejects.read_text() == ""
    written = Counter(
        {(id_, name): value for (_, id_), state in states.items() for name, value in state.items() if value}
    )
    assert {key: written[key] for key in sums} == dict(sums)

    assert cli.run([*command, "--state-out", str(out)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["verified"], again["messages"], again["entities"]) == (True, messages.total(), live)
    assert again["activations"] == {"Aircraft": 0, "Airport": 0}
    tail = next(id_ for kind, id_ in states if kind == "Aircraft")
    assert states_in(out)["Aircraft", tail]["miles"] == 2 * sums[tail, "miles"]


def test_a_total_that_differs_from_the_files_fails_the_replay(
    file_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One flight more than the file has, told to the living entity by somebody else: exit code 1, and where."""
    feed = FlightMessages.feed

    def feed_and_meddle(self: FlightMessages, *args: Any) -> None:
        feed(self, *args)
        file_cluster.entity(Airport, "EWR").diverted.remote().result(10)

    monkeypatch.setattr(FlightMessages, "feed", feed_and_meddle)
    assert cli.run(["replay", "flights", "--limit", "500", "--json", "--namespace", namespace]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verified"] is False
    assert "differs: Airport EWR diversions: the cluster has 1, the file 0\n" in err
    assert "error: 1 totals differ from the file's\nhint: " in err


def test_the_users_own_class_and_rows(file_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """A module beside the data reaches the runners, as CSV and as JSON lines; changed code is refused in one line."""
    (tmp_path / "s.csv").write_text("sensor,value,unit\na,1.5,C\nb,2,\na,warm,C\nc\n,3,C\na,-300,C\nb,4,K\n")
    told, errors = replay_own(
        tmp_path, namespace, "s.csv", "--rejects", "rejects.jsonl", "--state-out", "states.jsonl"
    )
    assert told.pop("messages_per_s") > 0
    assert list(told.pop("latency_ms")) == ["p50", "p99"]
    assert told == {
        "rows": 7,
        "rejected": 3,
        "messages": 4,
        "replies": 4,
        "errors": {"HandlerError": 1},
        "entities": {"Sensor": 2},
        "activations": {"Sensor": 2},
        "verified": None,
    }
    assert "rejected line 4: value: 'warm' is not a float\n" in errors
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert rejects == [
        {
            "line": 4,
            "reason": "value: 'warm' is not a float",
            "row": {"sensor": "a", "value": "warm", "unit": "C"},
        },
        {"line": 5, "reason": "1 cells where the header has 3", "row": ["c"]},
        {"line": 6, "reason": "sensor is empty", "row": {"sensor": None, "value": "3", "unit": "C"}},
    ]
    states = states_in(tmp_path / "states.jsonl")
    assert list(states) == [("Sensor", "a"), ("Sensor", "b")]
    assert all("lock" in state.pop("lock") for state in states.values())
    assert list(states.values()) == [
        {"count": 1, "last": "Reading(1.5)"},
        {"count": 2, "last": "Reading(4.0)"},
    ]

    lines = '{"sensor": "a", "value": 1}\n{"sensor": "b"}\nno json\n{"sensor": "d", "value": 2.5}\n'
    told, errors = replay_own(tmp_path, namespace, "-", "--state-out", "states.jsonl", rows=lines)
    assert (told["rows"], told["rejected"], told["messages"], told["errors"]) == (4, 2, 2, {})
    assert (told["entities"], told["activations"]) == ({"Sensor": 3}, {"Sensor": 1})
    assert "rejected line 2: value is missing\nrejected line 3: not JSON: " in errors
    states = states_in(tmp_path / "states.jsonl")
    assert {id_: state["count"] for (_, id_), state in states.items()} == {"a": 2, "d": 1}

    module = tmp_path / "sensors_of_mine.py"
    module.write_text(module.read_text().replace("count += 1", "count += 2"))
    told, errors = replay_own(tmp_path, namespace, "-", rows=lines)
    assert told == {}
    assert "error: Sensor cannot be fed: " in errors
    assert "hint: if its code has changed: cluster-app down" in errors


@pytest.mark.parametrize("command", ["status", "down"])
def test_looking_at_a_cluster_starts_none(
    ray_instance: None, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and a hint, no coordinator, and the Ray that is there stays."""
    assert cli.run([command, "--namespace", "nobody-here"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no cluster runs in namespace nobody-here of this Ray\nhint: ")
    assert ray.is_initialized()
    assert find_actor(COORDINATOR, "nobody-here") is None


def test_the_status_of_a_cluster_is_told_to_programs(
    file_cluster: Cluster, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The very object that `Cluster.status()` gives."""
    assert cli.run(["status", "--json", "--namespace", namespace]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(file_cluster.status().as_dict())
    assert told["shards"] == 300
    assert [runner["healthy"] for runner in told["runners"]] == [True]
