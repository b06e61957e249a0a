"""README's figures are those that were measured."""

from __future__ import annotations

import json

import pytest

from cluster_app.bench.rows.every import EVERY
from tests.bench_table import BEGIN, END, MEASURED, NotMeasured, rows, written
from tests.tables import README, section


def test_the_table_is_what_was_measured() -> None:
    """The table is what ``python -m tests.bench_table`` makes of the rounds beside it, and has every benchmark."""
    assert README.count(BEGIN) == README.count(END) == 1
    assert written(README) == README
    found = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert [report["benchmark"] for report in found["benchmarks"]] == [benchmark.name for benchmark in EVERY]


def test_a_quick_run_is_no_figure() -> None:
    """What only shows that all works can't become a table."""
    with pytest.raises(NotMeasured, match="--quick"):
        rows({"quick": True, "machine": {}, "benchmarks": []})


def test_every_benchmark_is_explained() -> None:
    """README's list has each benchmark by its name, in the order in which they run."""
    _, _, after = section("Figures").partition(END)
    names = [line.split("`")[1] for line in after.splitlines() if line.startswith("| `")]
    assert names == [benchmark.name for benchmark in EVERY]
