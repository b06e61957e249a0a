"""``cluster-app bench``: measurements of this machine, each against its peers.

It decides their options and how their figures are shown, not how anything is measured: a command per benchmark, with
an option per size, and ``all``.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cluster_app.bench.benchmark import Benchmark
from cluster_app.bench.child import ChildFailed
from cluster_app.bench.machine import machine
from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage
from cluster_app.bench.rows.every import EVERY
from cluster_app.commands.connection import Json

__all__ = ["bench"]

bench = typer.Typer(help="Measure this machine against its peers.", no_args_is_help=True)

Quick = Annotated[
    bool, typer.Option("--quick", help="Few messages, one round: shows that all works, and measures nothing.")
]
Out = Annotated[Path | None, typer.Option(help="Write the JSON object, with all rounds, into this file.")]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(benchmark: Benchmark, quick: bool, given: dict[str, int | None]) -> Report:
    _tell(f"{benchmark.name}: {benchmark.what}")
    return benchmark.measure(benchmark.asked(quick=quick, given=given), Stage(_tell))


def _show(found: dict[str, Any], reports: list[Report], as_json: bool, out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(found))
        return
    console = Console()
    for report in reports:
        for table in report.tables():
            console.print(table)


def _command(benchmark: Benchmark) -> Callable[..., None]:
    """The benchmark as a function with an option for each of its sizes, which is what typer reads."""

    def command(quick: bool, as_json: bool, out: Path | None, **given: int | None) -> None:
        report = _run(benchmark, quick, given)
        _show({"machine": machine(), "quick": quick, **report.as_dict()}, [report], as_json, out)

    options: dict[str, tuple[Any, Any]] = {
        size.name: (
            Annotated[int | None, typer.Option(min=size.least, help=f"{size.help} Default: {size.full:,}.")],
            None,
        )
        for size in benchmark.sizes
    }
    options |= {"quick": (Quick, False), "as_json": (Json, False), "out": (Out, None)}
    command.__doc__ = benchmark.what
    command.__annotations__ = {name: kind for name, (kind, _) in options.items()} | {"return": None}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]
    )
    return command


for _benchmark in EVERY:
    bench.command(_benchmark.name)(_command(_benchmark))


@bench.command("all")
def every(quick: Quick = False, as_json: Json = False, out: Out = None) -> int:
    """Every benchmark, one after another; one that fails is told, and the others go on."""
    reports: list[Report] = []
    found: list[dict[str, Any]] = []
    for benchmark in EVERY:
        try:
            report = _run(benchmark, quick, {})
        except ChildFailed as failure:
            _tell(f"failed: {failure}\nhint: {failure.hint}")
            found.append({"benchmark": benchmark.name, "failed": str(failure)})
        else:
            reports.append(report)
            found.append(report.as_dict())
    _show({"machine": machine(), "quick": quick, "benchmarks": found}, reports, as_json, out)
    return 0 if len(reports) == len(EVERY) else 1
