"""Every query of a dashboard or a rule file, taken apart by a parser of PromQL."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import promql_parser as promql

__all__ = ["Query", "Selected", "grouped", "panels", "queries", "selected", "with_values"]

VALUES = {"__rate_interval": "2m", "__range": "1h", "max_idle_time": "60", "candidate": "300"}
"""What Grafana puts in for variables that stand outside of label matchers."""


class Query(NamedTuple):
    """Where a query stands, and its text as it is written."""

    where: str
    text: str


class Selected(NamedTuple):
    """What one selector of a query asks for: a series' name, and label matchers by label."""

    name: str
    matchers: dict[str, str]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels, also those in folded rows."""
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]


def queries(dashboard: dict[str, Any]) -> list[Query]:
    """The queries of all panels."""
    return [
        Query(f"{dashboard['uid']}: {panel['title']}", target["expr"])
        for panel in panels(dashboard)
        for target in panel.get("targets", ())
    ]


def with_values(text: str) -> str:
    """The query as Prometheus gets it: variables in matchers stand for anything."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: VALUES.get(found[1], ".*"), text)


def selected(text: str) -> list[Selected]:
    """The selectors of a query. Raises ValueError when it is no PromQL."""
    found: list[Selected] = []

    def look(expression: Any) -> None:
        if isinstance(expression, promql.MatrixSelector):
            expression = expression.vector_selector
        if isinstance(expression, promql.VectorSelector):
            matchers = {matcher.name: matcher.value for matcher in expression.matchers.matchers}
            found.append(Selected(expression.name or matchers["__name__"], matchers))

    promql.walk(promql.parse(with_values(text)), look)
    return found


def grouped(text: str) -> set[str]:
    """The labels by which, or without which, a query adds up."""
    found: set[str] = set()

    def look(expression: Any) -> None:
        if isinstance(expression, promql.AggregateExpr) and expression.modifier is not None:
            found.update(expression.modifier.labels)

    promql.walk(promql.parse(with_values(text)), look)
    return found
