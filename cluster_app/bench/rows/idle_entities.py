"""A great many idle entities on one runner: what each weighs, and what messages cost among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from cluster_app.bench.benchmark import Benchmark, Size
from cluster_app.bench.column import Column
from cluster_app.bench.figure import AtMost, Figure
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Side, Stage

__all__ = ["IDLE_ENTITIES", "measure"]

ENTITY, OBJECT = "entity", "plain object"
MANY, FEW = "among many", "among few"
CPU_US = "µs of CPU per message"


def cpu_us(paces: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU microseconds per message, a figure per pace."""
    return [pace["cpu_s"] / pace["messages"] * 1e6 for pace in paces]


def _entities_say(line: Mapping[str, Any]) -> str:
    few_us, many_us = median(cpu_us(line["among_few"])), median(cpu_us(line["among_many"]))
    return (
        f"{line['bytes_each']:,.0f} bytes each, "
        f"{few_us:.2f} µs of CPU per message among few and {many_us:.2f} among many"
    )


def measure(asked: Mapping[str, int], stage: Stage) -> Report:
    """Run the rounds of entities, and of plain objects of the same content."""
    entities = Side(
        "entities",
        "cluster_app.bench.idle_entities",
        {name: asked[name] for name in ("entities", "messages", "in_flight", "sample")},
        _entities_say,
    )
    objects = Side(
        "plain objects",
        "cluster_app.bench.plain_objects",
        {"objects": asked["entities"]},
        lambda line: f"{line['bytes_each']:,.0f} bytes each",
    )
    rounds = stage.play([entities, objects], asked["rounds"])
    lines = rounds[entities.name]
    columns = {
        ENTITY: Column("bytes", [float(line["bytes_each"]) for line in lines]),
        OBJECT: Column("bytes", [float(line["bytes_each"]) for line in rounds[objects.name]]),
        MANY: Column(CPU_US, [us for line in lines for us in cpu_us(line["among_many"])]),
        FEW: Column(CPU_US, [us for line in lines for us in cpu_us(line["among_few"])]),
    }
    beyond = columns[ENTITY].median - columns[OBJECT].median
    ratio = columns[MANY].median / columns[FEW].median
    figures = [
        Figure(
            f"memory of {asked['entities']:,} live entities, each, beyond its object",
            beyond,
            "bytes",
            AtMost(1_024, 512),
            ENTITY,
            OBJECT,
        ),
        Figure(
            f"CPU per message among {asked['entities']:,} live entities, against 1,000",
            ratio,
            "times",
            AtMost(1.5, 1.0),
            MANY,
            FEW,
        ),
    ]
    return Report("idle-entities", asked, columns, figures, rounds)


IDLE_ENTITIES = Benchmark(
    "idle-entities",
    "A great many live entities on one runner: memory of each, and cost of messages among them.",
    (
        Size("rounds", 1, 1, "Rounds."),
        Size(
            "entities",
            1_000_000,
            2_000,
            "Entities that live at once; each answers again before it is weighed.",
        ),
        Size(
            "messages",
            200_000,
            2_000,
            "Messages whose cost is measured, three times among few and three times among many.",
        ),
        Size("sample", 100_000, 500, "Of the many, how many the messages go to."),
        Size("in_flight", 1_000, 200, "Messages in flight."),
    ),
    measure,
)
