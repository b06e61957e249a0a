"""README's table of figures, made of what ``make bench`` measured; ``python -m tests.bench_table`` rewrites it."""

from __future__ import annotations

import json
from typing import Any

from tests.source import ROOT

__all__ = ["BEGIN", "END", "MEASURED", "NotMeasured", "rows", "written"]

BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
MEASURED = ROOT / "docs" / "bench.json"


class NotMeasured(Exception):
    """The file holds a quick run, whose figures say nothing."""


def rows(found: dict[str, Any]) -> str:
    """The machine, and the table with a row per figure. Raises NotMeasured."""
    if found["quick"]:
        raise NotMeasured("a run with --quick measures nothing: run make bench")
    machine, versions = found["machine"], found["machine"]["versions"]
    settings = "".join(f", {name}={value}" for name, value in machine["settings"].items())
    lines = [
        f"Measured on {machine['date']}, with {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gb']} GB of memory, {machine['system']}, Python {machine['python']}, "
        f"Ray {versions['ray']}, xoscar {versions['xoscar']}, "
        f"OpenTelemetry {versions['opentelemetry-sdk']}{settings}. "
        "Medians, with the lowest and the highest in brackets; "
        "a date in a row says that it was measured again by itself.",
        "",
        "| benchmark | figure | value | goal | ours | peer |",
        "|---|---|---|---|---|---|",
    ]
    for report in found["benchmarks"]:
        # One that was run again by itself has a date of its own.
        name = f"`{report['benchmark']}`" + (f" ({report['date']})" if "date" in report else "")
        if "failed" in report:
            lines.append(f"| {name} | failed: {_cell(report['failed'])} | | | | |")
            continue
        for figure in report["figures"]:
            cells = [
                name,
                _cell(figure["what"]),
                _cell(figure["text"]),
                figure["verdict"],
                _side(report, figure["ours"]),
                _side(report, figure["peer"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _side(report: dict[str, Any], name: str | None) -> str:
    if name is None:
        return ""
    column = report["columns"][name]
    values = column["values"]
    spread = f" ({_short(min(values))} to {_short(max(values))})" if len(values) > 1 else ""
    return _cell(f"{name}: {_short(column['median'])}{spread} {column['unit']}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.2f}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def written(readme: str) -> str:
    """README with the table in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{rows(json.loads(MEASURED.read_text(encoding='utf-8')))}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
