"""The measured path of a message: every one arrives, and all time is told of."""

from __future__ import annotations

import asyncio

import pytest

from cluster_app.bench.message_path import main, measure


def test_both_sides_and_every_file_are_told() -> None:
    """Time on either side, shares that make one whole, and the files that every message passes."""
    spent = asyncio.run(measure(2_000))
    assert spent.sender_us > 0 and spent.runner_us > 0
    assert sum(spent.shares.values()) == pytest.approx(1.0)
    passed = {
        "cluster_app/reference.py",
        "cluster_app/outbound_lane.py",
        "entities/crew.py",
        "entities/turns.py",
    }
    assert passed <= spent.shares.keys()


def test_as_a_program_it_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """First both sides, then files, the costliest first."""
    main(["2000"])
    first, *files = capsys.readouterr().out.splitlines()
    assert first.startswith("sender ") and "runner " in first
    costs = [float(line.split()[0]) for line in files]
    assert costs == sorted(costs, reverse=True) and len(costs) > 5
