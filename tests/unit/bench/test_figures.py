"""What is made of the rounds: figures, goals, bounds, and the words about a peer that was too slow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cluster_app.bench.benchmark import Benchmark
from cluster_app.bench.confidence import upper_bound
from cluster_app.bench.figure import AtLeast, AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage
from cluster_app.bench.rows.every import EVERY
from cluster_app.bench.rows.hosted import HOSTED
from cluster_app.bench.rows.idle_entities import IDLE_ENTITIES
from cluster_app.bench.rows.instrument import INSTRUMENT
from cluster_app.bench.rows.one_at_a_time import ONE_AT_A_TIME
from cluster_app.bench.rows.overhead import OVERHEAD
from cluster_app.bench.rows.pipelined import PIPELINED
from cluster_app.bench.rows.telemetry import TELEMETRY
from cluster_app.bench.rows.tracing import TRACING

Child = Callable[[str, Mapping[str, Any]], dict[str, Any]]


def measured(benchmark: Benchmark, child: Child, **given: int) -> Report:
    """The benchmark with children that say what the test wants."""
    asked = benchmark.asked(quick=True, given=given)
    return benchmark.measure(asked, Stage(lambda line: None, child))


def at(per_s: Mapping[str, float]) -> Child:
    """Sides that run at these speeds, by the last part of their module's name."""

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        speed = per_s[module.rpartition(".")[2] + ("/batched" if asked.get("batched") else "")]
        return {"messages": asked["messages"], "elapsed_s": asked["messages"] / speed, "cpu_s": 1.0}

    return child


SPEEDS = {
    "entity_messages": 200_000.0,
    "ray_calls": 4_000.0,
    "ray_hand_instrumented": 3_000.0,
    "xoscar_calls": 10_000.0,
    "xoscar_calls/batched": 100_000.0,
}


def test_rounds_turn_round_and_all_is_told_and_kept() -> None:
    """Who goes first changes from round to round; every line of every side is kept."""
    order: list[str] = []
    told: list[str] = []

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        order.append(module)
        return {"number": len(order), "asked": asked["messages"]}

    sides = [
        Side(name, f"side.{name}", {"messages": 7}, lambda line: f"no. {line['number']}") for name in "ab"
    ]
    lines = Stage(told.append, child).play(sides, 3)
    assert order == ["side.a", "side.b", "side.b", "side.a", "side.a", "side.b"]
    assert [line["number"] for line in lines["a"]] == [1, 4, 5]
    assert [line["number"] for line in lines["b"]] == [2, 3, 6]
    assert told[0] == "round 1 of 3: a: no. 1" and len(told) == 6


def test_medians_and_their_ratio_are_quoted() -> None:
    """Of the rounds of each side, not of the best, nor the mean."""
    paces = {"entity_messages": iter([100_000, 900_000, 120_000]), "ray_calls": iter([4_000, 5_000, 100])}

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        speeds = paces.get(module.rpartition(".")[2])
        return {"messages": next(speeds) if speeds else 80_000, "elapsed_s": 1.0, "cpu_s": 1.0}

    told = measured(PIPELINED, child, rounds=3).as_dict()
    assert told["figures"][0]["value"] == 30.0
    assert told["columns"]["entities"] == {
        "unit": "messages/s",
        "median": 120_000,
        "values": [100_000, 900_000, 120_000],
    }
    assert [line["messages"] for line in told["rounds"]["raw Ray"]] == [4_000, 5_000, 100]
    json.dumps(told)


def test_every_peer_has_as_much_in_flight_as_the_entities() -> None:
    """A number in flight that is given reaches all sides."""
    asked_of: dict[str, Mapping[str, Any]] = {}

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        asked_of[f"{module} {asked.get('batched')}"] = asked
        return {"messages": asked["messages"], "elapsed_s": 1.0, "cpu_s": 1.0}

    measured(PIPELINED, child, in_flight=77)
    assert [asked["in_flight"] for asked in asked_of.values()] == [77] * 5


def test_a_goal_that_is_met_and_one_that_is_missed() -> None:
    """50 times raw Ray and 2 times xoscar's batch are met; 5 times its gather where 10 were wanted is not."""
    report = measured(PIPELINED, at(SPEEDS | {"xoscar_calls": 40_000.0}))
    raw, by_hand, gathered, batched = (figure.as_dict() for figure in report.figures)
    assert (raw["value"], raw["met"], raw["fair"]) == (50.0, True, True)
    assert (by_hand["goal"], by_hand["met"]) == (None, None)
    assert (gathered["value"], gathered["met"]) == (5.0, False)
    assert (batched["value"], batched["met"], batched["text"]) == (2.0, True, "2 times")


@pytest.mark.parametrize(("side", "place"), [(name, place) for place, name in enumerate(list(SPEEDS)[1:])])
def test_a_peer_slower_than_it_is_known_to_be_is_told(side: str, place: int) -> None:
    """A slowed denominator makes a figure that is worth nothing, and it says so; the others stay fair."""
    figures = measured(PIPELINED, at(SPEEDS | {side: 1_900.0})).figures
    assert [figure.fair for figure in figures] == [number != place for number in range(4)]
    assert "too slow to be fair" in figures[place].text
    assert figures[place].met is None and figures[place].verdict in ("", f"{figures[place].goal}: not shown")


def test_a_raw_call_that_takes_longer_than_it_is_known_to_is_told() -> None:
    """The same for latency, where slow means large."""

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messages": 1,
            "p50_us": 1_500.0 if "ray_" in module else 900.0,
            "p99_us": 3_000.0,
            "cpu_us": 1.0,
        }

    figure, _ = measured(ONE_AT_A_TIME, child).figures
    assert figure.value == pytest.approx(0.6)
    assert not figure.fair


def test_one_message_at_a_time_tells_what_its_exchange_costs() -> None:
    """CPU of both processes, and how many times a raw call's that is."""

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        cpu_us = 1_000.0 if "ray_" in module else 1_250.0
        return {"messages": 1, "p50_us": 1_000.0, "p99_us": 3_000.0, "cpu_us": cpu_us}

    report = measured(ONE_AT_A_TIME, child)
    assert report.figures[1].value == pytest.approx(1.25)
    assert report.columns["entities CPU"].values == [1_250.0]


def test_goals_bound_from_either_side() -> None:
    """The bound itself is met."""
    assert [AtLeast(40, 70).met_by(value) for value in (39.9, 40, 41)] == [False, True, True]
    assert [AtMost(1.3, 1).met_by(value) for value in (1.2, 1.3, 1.31)] == [True, True, False]
    assert (str(AtLeast(40_000, 1)), str(AtMost(1.3, 1))) == ("40,000 or more", "1.30 or less")
    assert Figure("x", 1_234.5, "µs", None, "x").text == "1,234 µs"


def test_the_upper_bound_is_students() -> None:
    """Mean 3 and standard deviation 1.5811 of five figures; t of 4 degrees at 95 % is 2.1318."""
    assert upper_bound([1, 2, 3, 4, 5]) == pytest.approx(3 + 2.1318 * 1.5811 / 5**0.5, abs=1e-3)
    assert upper_bound([2.0, 2.0, 2.0]) == 2.0
    with pytest.raises(ValueError, match="two figures"):
        upper_bound([1.0])


def test_telemetry_is_the_mean_of_ratios_by_turn_and_the_agents_share_of_a_core() -> None:
    """Each turn with a bad collector is held against the healthy turn beside it."""
    line = {
        "healthy": [100.0, 200.0],
        "absent": [90.0, 220.0],
        "slow": [80.0, 160.0],
        "refusing": [100.0, 200.0],
        "agent_percent": [1.0, 2.0],
    }
    asked = TELEMETRY.asked(quick=True, given={})
    report = TELEMETRY.measure(asked, Stage(lambda told: None, lambda module, given: line))
    assert [(figure.value, figure.met) for figure in report.figures] == [
        (1.5, True),
        (pytest.approx(1.0), True),
        (pytest.approx(0.8), False),
        (pytest.approx(1.0), True),
    ]


def test_overhead_is_the_mean_of_ratios_by_pair_with_its_bound() -> None:
    """A machine that gets slower from pair to pair does not matter: 4 % and 6 % more are 5 % on the mean."""
    line = {"on_us": [10.4, 21.2], "off_us": [10.0, 20.0]}
    bound, average = measured(OVERHEAD, lambda module, asked: line, rounds=2).figures
    assert average.value == pytest.approx(5.0)
    # Four figures 4, 6, 4, 6: standard deviation 1.1547, t of 3 degrees 2.3534.
    assert bound.value == pytest.approx(5.0 + 2.3534 * 1.1547 / 2, abs=1e-3)


def test_what_tracing_adds_is_held_against_no_traces_pair_by_pair() -> None:
    """0 and 2 % more are 1 % on the mean; a sampled message costs what it takes beyond one that is not."""
    line = {
        "none_us": [10.0, 20.0],
        "off_us": [10.0, 20.4],
        "ratio_off_us": [10.0, 20.0],
        "percent_us": [10.3, 20.6],
        "all_us": [45.0],
    }
    figures = measured(TRACING, lambda module, asked: line, rounds=2).figures
    # Four figures 0, 2, 0, 2: standard deviation 1.1547, t of 3 degrees 2.3534.
    bound = 1.0 + 2.3534 * 1.1547 / 2
    assert [figure.value for figure in figures] == pytest.approx([bound, 1.0, 0.0, 3.0, 3.0, 30.0], abs=1e-3)
    assert [figure.met for figure in figures] == [False, None, True, True, None, None]


def test_what_instrumenting_adds_is_without_the_call_itself() -> None:
    """20 and 8 µs more by hand and 5 by us, on a machine that gets slower from turn to turn: one met, one missed."""

    def turns(*cpu_us: float, per_s: float = 4_000) -> list[dict[str, float]]:
        return [{"messages": 1_000, "elapsed_s": 1_000 / per_s, "cpu_s": us * 1e-3} for us in cpu_us]

    line = {
        "plain": turns(100, 200),
        "instrumented": turns(105, 205),
        "by hand, on completion": turns(120, 220),
        "by hand, at get": turns(108, 208),
    }
    figures = measured(INSTRUMENT, lambda module, asked: line, rounds=2).figures
    assert [figure.value for figure in figures] == pytest.approx([0.25, 0.625, 5.0, 20.0, 8.0])
    assert [figure.met for figure in figures] == [True, False, None, None, None]

    line["by hand, at get"] = turns(99, 199)
    figures = measured(INSTRUMENT, lambda module, asked: line).figures
    assert [figure.fair for figure in figures[:2]] == [True, False]

    line |= {"plain": turns(100, 200, per_s=3_200), "by hand, at get": turns(108, 208)}
    figures = measured(INSTRUMENT, lambda module, asked: line).figures
    assert [figure.fair for figure in figures[:2]] == [False, False]


def test_memory_is_what_lies_beyond_the_object_and_cost_is_compared() -> None:
    """600 bytes of which 100 are the user's; medians of 6 µs among many against 5 among few."""

    def paces(*cpu_us: float) -> list[dict[str, float]]:
        return [{"messages": 1_000, "cpu_s": us * 1e-3} for us in cpu_us]

    def child(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        if module.endswith("plain_objects"):
            return {"bytes_each": 100.0}
        return {"bytes_each": 600.0, "among_few": paces(5, 1, 9), "among_many": paces(99, 6, 2)}

    memory, cost = measured(IDLE_ENTITIES, child).figures
    assert (memory.value, memory.unit) == (500.0, "bytes")
    assert cost.value == pytest.approx(1.2)


def test_anything_left_behind_misses_the_goal() -> None:
    """One lane is enough."""
    left = {"processes": 0, "entities": 0, "lanes": 1, "series": 0}
    line = {
        "starts_ms": [110.0, 210.0, 310.0],
        "cpu_ms": [440.0, 900.0, 430.0],
        "raw_starts_ms": [200.0, 200.0, 210.0],
        "raw_cpu_ms": [400.0, 400.0, 390.0],
        "left": left,
    }
    start, cpu, behind = measured(HOSTED, lambda module, asked: line).figures
    assert start.value == pytest.approx(1.05)
    assert cpu.value == pytest.approx(1.1)
    assert (behind.value, behind.goal and behind.goal.met_by(behind.value)) == (1.0, False)


def test_sizes_are_the_given_ones_or_their_own() -> None:
    """Quick or full, and what is given wins."""
    assert PIPELINED.asked(quick=False, given={"entities": 5, "calls": None})["entities"] == 5
    assert PIPELINED.asked(quick=False, given={})["in_flight"] == 2_000
    for benchmark in EVERY:
        quick, full = benchmark.asked(quick=True, given={}), benchmark.asked(quick=False, given={})
        assert all(quick[name] <= full[name] for name in full), benchmark.name
    overhead = OVERHEAD.asked(quick=False, given={})
    assert overhead["rounds"] * overhead["pairs"] >= 20
