"""``cluster-app bench``, each benchmark with all of its sides: that it runs, checks and tells. Never how fast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster_app import cli
from cluster_app.bench.rows.every import EVERY

# Each side starts a process and a Ray of its own.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(150)]

SIDES = {
    "pipelined": ["entities", "raw Ray", "raw Ray, instrumented by hand", "xoscar gather", "xoscar batch"],
    "closed-loop": ["entities", "raw Ray"],
    "one-at-a-time": ["entities", "raw Ray"],
    "entity-to-entity": ["entity to entity"],
    "overhead": ["metrics on and off"],
    "tracing": ["tracing on and off"],
    "instrument": ["in turns"],
    "new-entities": ["new entities"],
    "idle-entities": ["entities", "plain objects"],
    "hosted": ["in turns"],
    "telemetry": ["collectors"],
    "simulated": ["simulated"],
}


@pytest.mark.parametrize("name", [benchmark.name for benchmark in EVERY])
def test_a_quick_run_of_each_benchmark(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object on standard output, the same in the file: every side's line, and figures made of them."""
    out = tmp_path / "found.json"
    assert cli.run(["bench", name, "--quick", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found == json.loads(out.read_text())
    assert (found["benchmark"], found["quick"]) == (name, True)
    assert found["machine"]["cores"] > 0 and found["machine"]["versions"]["ray"]

    said = found["rounds"]
    assert list(said) == SIDES[name]
    assert all(len(lines) == found["asked"]["rounds"] == 1 for lines in said.values())
    for side in said:
        assert f"round 1 of 1: {side}: " in printed.err
    for column in found["columns"].values():
        assert min(column["values"]) <= column["median"] <= max(column["values"])
    assert found["figures"]
    for figure in found["figures"]:
        assert isinstance(figure["value"], int | float)
        assert figure["ours"] in found["columns"] and figure["peer"] in (None, *found["columns"])
        assert (figure["met"] is None) == (figure["goal"] is None or not figure["fair"])
    if name in CHECKS:
        CHECKS[name](found)


def check_hosted(found: dict[str, Any]) -> None:
    """Nothing is left, at any size."""
    (line,) = found["rounds"]["in turns"]
    assert line["left"] == {"processes": 0, "entities": 0, "lanes": 0, "series": 0}
    taken = [line[name] for name in ("starts_ms", "cpu_ms", "raw_starts_ms", "raw_cpu_ms")]
    assert {len(each) for each in taken} == {found["asked"]["entities"]}


def check_overhead(found: dict[str, Any]) -> None:
    """A figure for each block of each pair."""
    (line,) = found["rounds"]["metrics on and off"]
    assert len(line["on_us"]) == len(line["off_us"]) == found["asked"]["pairs"]
    assert min(line["on_us"] + line["off_us"]) > 0


def check_idle(found: dict[str, Any]) -> None:
    """All the entities that were asked for lived at once, and messages went to a sample of them."""
    (line,) = found["rounds"]["entities"]
    assert (line["entities"], line["sample"]) == (found["asked"]["entities"], found["asked"]["sample"])
    sent = [pace["messages"] for pace in line["among_few"] + line["among_many"]]
    assert sent == [found["asked"]["messages"]] * 6


def check_instrument(found: dict[str, Any]) -> None:
    """A figure for each turn of each."""
    assert list(found["columns"]) == ["plain", "instrumented", "by hand, on completion", "by hand, at get"]
    for column in found["columns"].values():
        assert len(column["values"]) == found["asked"]["turns"] and min(column["values"]) > 0


def check_pipelined(found: dict[str, Any]) -> None:
    """Each side sent what it was asked to."""
    asked, said = found["asked"], found["rounds"]
    sent = [lines[0]["messages"] for lines in said.values()]
    assert sent == [asked["messages"], asked["calls"], asked["calls"], asked["gathered"], asked["messages"]]
    assert all(lines[0]["elapsed_s"] > 0 and lines[0]["cpu_s"] > 0 for lines in said.values())


def check_simulated(found: dict[str, Any]) -> None:
    """Some shards changed hands; at rest each runner renewed more than once a second, and only the clock made plans."""
    (line,) = found["rounds"]["simulated"]
    assert 0 < line["moved"] < found["asked"]["shards"] / 4
    assert line["changes_bytes"] < line["routes_bytes"] / 2
    assert line["rest"]["renewals_per_s"] > found["asked"]["runners"]
    assert line["rest"]["plans_per_s"] < 4


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "pipelined": check_pipelined,
    "instrument": check_instrument,
    "overhead": check_overhead,
    "idle-entities": check_idle,
    "hosted": check_hosted,
    "simulated": check_simulated,
}
