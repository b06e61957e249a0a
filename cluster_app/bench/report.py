"""What a benchmark found: every round, the medians, and the figures that are quoted.

It decides the shape for programs and for people, the same for all benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.table import Table

from cluster_app.bench.column import Column
from cluster_app.bench.figure import Figure
from cluster_app.bench.rounds import Rounds

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's rounds and figures.

    :ivar benchmark: its name on the command line.
    :ivar asked: what was measured, by name.
    :ivar columns: the numbers that are compared, by side.
    :ivar figures: what is quoted.
    :ivar rounds: everything that each side said.
    """

    benchmark: str
    asked: Mapping[str, int]
    columns: Mapping[str, Column]
    figures: Sequence[Figure]
    rounds: Rounds

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "benchmark": self.benchmark,
            "asked": dict(self.asked),
            "columns": {
                name: {
                    "unit": column.unit,
                    "median": round(column.median, 3),
                    "values": [round(value, 3) for value in column.values],
                }
                for name, column in self.columns.items()
            },
            "figures": [figure.as_dict() for figure in self.figures],
            "rounds": {side: [dict(line) for line in lines] for side, lines in self.rounds.items()},
        }

    def tables(self) -> list[Table]:
        """The same for people: the rounds, then the figures."""
        rounds = Table("round", title=self.benchmark)
        for name, column in self.columns.items():
            rounds.add_column(f"{name}, {column.unit}", justify="right")
        every = (column.values for column in self.columns.values())
        for number, values in enumerate(zip_longest(*every), start=1):
            rounds.add_row(str(number), *("" if value is None else f"{value:,.1f}" for value in values))
        rounds.add_section()
        rounds.add_row("median", *(f"{column.median:,.1f}" for column in self.columns.values()))
        figures = Table("figure", "value", "goal")
        for figure in self.figures:
            figures.add_row(figure.what, figure.text, figure.verdict)
        return [rounds, figures]
