"""``cluster-app bench``: options, what is printed where, and a benchmark that fails. No Ray: children are played."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster_app import cli
from cluster_app.bench import rounds
from cluster_app.bench.child import ChildFailed
from cluster_app.bench.rows.every import EVERY

LINES: dict[str, dict[str, Any]] = {
    "entity_messages": {"messages": 9_000, "elapsed_s": 0.1, "cpu_s": 0.1},
    "ray_calls": {"messages": 400, "elapsed_s": 0.1, "cpu_s": 0.1},
    "ray_instrumented_calls": {
        name: [{"messages": 10, "elapsed_s": 0.1, "cpu_s": 0.1}]
        for name in ("plain", "instrumented", "by hand, on completion", "by hand, at get")
    },
    "metrics_on_off": {"on_us": [10.0, 11.0], "off_us": [9.9, 10.9]},
    "tracing_on_off": {
        **{name: [10.0, 11.0] for name in ("none_us", "off_us", "ratio_off_us", "percent_us")},
        "all_us": [50.0],
        "share": 0.01,
    },
    "idle_entities": {
        "bytes_each": 900.0,
        "among_few": [{"messages": 1_000_000, "cpu_s": 9.0}],
        "among_many": [{"messages": 1_000_000, "cpu_s": 9.5}],
    },
    "plain_objects": {"bytes_each": 90.0},
    "entity_to_entity": {"p50_us": 50.0, "p99_us": 90.0},
    "hosted_entities": {
        "starts_ms": [900.0],
        "cpu_ms": [440.0],
        "raw_starts_ms": [890.0],
        "raw_cpu_ms": [400.0],
        "left": {"processes": 0},
    },
    "ray_collectors": {
        "healthy": [100.0],
        "absent": [101.0],
        "slow": [99.0],
        "refusing": [98.0],
        "agent_percent": [1.5],
    },
}
LINES["simulated_cluster"] = {
    **{name: 0.3 for name in ("lose_s", "join_s", "longest_tick_s")},
    "changes_bytes": 200_000,
    "routes_bytes": 2_000_000,
    "rest": {"cpu_s_per_s": 0.05},
}
LATENCY = {"messages": 10, "p50_us": 900.0, "p99_us": 1_000.0, "cpu_us": 1_200.0}


@pytest.fixture
def asked_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mapping[str, Any]]:
    """Play the children; what each was asked, by module. One of them fails."""
    asked_of: dict[str, Mapping[str, Any]] = {}

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = module.rpartition(".")[2]
        asked_of[name] = asked
        if name == "new_entities":
            raise ChildFailed(module, "no luck today", "{}")
        return LATENCY if "one_at_a_time" in name else LINES.get(name, LINES["ray_calls"])

    monkeypatch.setattr(rounds, "run_child", child)
    return asked_of


def test_sizes_are_options_and_only_the_object_is_on_standard_output(
    asked_of: dict[str, Mapping[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is given reaches the sides; rounds are told on standard error; the file holds the same object."""
    out = tmp_path / "found.json"
    line = ["bench", "pipelined", "--rounds", "2", "--messages", "77", "--in-flight", "5", "--json"]
    assert cli.run([*line, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found == json.loads(out.read_text())
    assert asked_of["entity_messages"] == {"messages": 77, "in_flight": 5, "entities": 1_000}
    assert asked_of["ray_calls"] == {"messages": 20_000, "in_flight": 5}
    assert (found["benchmark"], found["quick"], found["asked"]["rounds"]) == ("pipelined", False, 2)
    assert found["columns"]["entities"] == {"unit": "messages/s", "median": 90_000, "values": [90_000] * 2}
    assert "round 2 of 2: raw Ray: 4,000/s\n" in printed.err


def test_people_see_rounds_figures_and_goals(
    asked_of: dict[str, Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, with what was missed and what was met."""
    assert cli.run(["bench", "idle-entities", "--quick"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "810 bytes 1,024 or less: met" in words
    assert "1.06 times 1.50 or less: met" in words


def test_one_benchmark_that_fails_is_told_and_the_others_go_on(
    asked_of: dict[str, Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the object as well, and by the exit code."""
    assert cli.run(["bench", "all", "--quick", "--json"]) == 1
    printed = capsys.readouterr()
    reports = json.loads(printed.out)["benchmarks"]
    assert [report["benchmark"] for report in reports] == [benchmark.name for benchmark in EVERY]
    failed = [report for report in reports if "failed" in report]
    assert failed == [
        {"benchmark": "new-entities", "failed": "cluster_app.bench.new_entities: no luck today"}
    ]
    assert "hint: run it alone: python -m cluster_app.bench.new_entities" in printed.err


def test_too_few_pairs_for_a_bound_are_refused_before_anything_runs(
    asked_of: dict[str, Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line, in one line."""
    assert cli.run(["bench", "overhead", "--pairs", "1"]) == 2
    assert "pairs" in capsys.readouterr().err
    assert asked_of == {}
