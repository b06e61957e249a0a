"""A coordinator of a great many runners and shards, simulated: what a loss, joins and quiet times cost it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["SIMULATED", "measure"]

LOSE, REST, TICK, JOIN, CHANGES, ALL = "loss", "at rest", "longest tick", "joins", "changes", "all routes"


def _says(line: Mapping[str, Any]) -> str:
    return (
        f"{line['lose_s']:.2f} s of CPU for the loss, {line['join_s']:.1f} s for the joins, "
        f"{line['rest']['cpu_s_per_s'] * 1000:.0f} ms a second at rest"
    )


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds."""
    sizes = {name: asked[name] for name in ("runners", "shards", "seconds")}
    side = Side("simulated", "cluster_app.bench.simulated_cluster", sizes, _says)
    rounds = stage.play([side], asked["rounds"])
    lines = rounds[side.name]
    columns = {
        LOSE: Column("s of CPU", [float(line["lose_s"]) for line in lines]),
        REST: Column("ms of CPU per second", [line["rest"]["cpu_s_per_s"] * 1000 for line in lines]),
        TICK: Column("ms of CPU", [line["longest_tick_s"] * 1000 for line in lines]),
        JOIN: Column("s of CPU", [float(line["join_s"]) for line in lines]),
        CHANGES: Column("kB", [line["changes_bytes"] / 1000 for line in lines]),
        ALL: Column("kB", [line["routes_bytes"] / 1000 for line in lines]),
    }
    of = f"of {asked['runners']:,} runners with {asked['shards']:,} shards"
    tenth = f"{asked['runners'] // 10:,}"
    figures = [
        Figure(f"loss of {tenth} {of}, all granted anew", columns[LOSE].median, "s", AtMost(1.0, 0.3), LOSE),
        Figure(f"{tenth} more to join {of}, planned", columns[JOIN].median, "s", None, JOIN),
        Figure("longest that renewals wait for a plan", columns[TICK].median, "ms", AtMost(250, 100), TICK),
        Figure(
            f"renewals of {asked['runners']:,} runners at rest, of a core",
            columns[REST].median / 10,
            "%",
            AtMost(25, 10),
            REST,
        ),
        Figure(
            "what a sender is told after the loss, against all routes",
            columns[CHANGES].median / columns[ALL].median,
            "times",
            AtMost(0.2, 0.1),
            CHANGES,
            ALL,
        ),
    ]
    return Report("simulated", asked, columns, figures, rounds)


SIMULATED = Benchmark(
    "simulated",
    "A coordinator of a great many runners and shards, simulated: a loss, joins, and quiet times.",
    (
        Size("rounds", 3, 1, "Rounds."),
        Size("runners", 1_000, 40, "Runners, a tenth of which are lost.", 10),
        Size("shards", 100_000, 2_000, "Shards, of one group."),
        Size("seconds", 20, 3, "Simulated seconds at rest."),
    ),
    measure,
)
