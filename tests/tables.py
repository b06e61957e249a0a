"""Tables and marked sections of README.md, as data, for the tests that hold them against the code."""

from __future__ import annotations

from tests.source import ROOT

__all__ = ["README", "section", "table"]

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under the heading of that title, up to the next heading of the same depth or above."""
    lines = README.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("#").strip() == title]
    assert len(starts) == 1, f"README.md has {len(starts)} headings {title!r}"
    depth = len(lines[starts[0]]) - len(lines[starts[0]].lstrip("#"))
    body: list[str] = []
    fenced = False
    for line in lines[starts[0] + 1 :]:
        if line.startswith("```"):
            fenced = not fenced
        if not fenced and line.startswith("#") and len(line) - len(line.lstrip("#")) <= depth:
            break
        body.append(line)
    return "\n".join(body)


def table(title: str) -> list[dict[str, str]]:
    """The rows of the first table under that heading: column to text, without the backquotes."""
    lines = section(title).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows: list[list[str]] = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")])
    header, _, *body = rows
    assert all(len(row) == len(header) for row in body), (
        f"a row of the table under {title!r} has another width"
    )
    return [dict(zip(header, row, strict=True)) for row in body]
