"""The PromQL of the dashboards and rule files that the project ships, found by walking its `deploy` folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from observe.metrics import cluster
from tests.source import ROOT

__all__ = ["Query", "comparisons_as_values", "panel_queries", "rule_files", "rule_queries", "selectors"]

_METRIC = re.compile(rf"\bray_({'|'.join(instrument.name for instrument in cluster)})")
_COMPARISON = re.compile(r"(>=|<=|==|!=|>|<)(?!\s*bool)")
# A metric, or what a recording rule made of one.
_SELECTOR = re.compile(r"\b(ray_cluster_[a-z0-9_:]+)(\{[^}]*\})?")
_ZERO = re.compile(r"\s+or\s+(?:on\s*\(\)\s*)?vector\(0\)")
_QUOTED_OR_BRACED = re.compile(r'(\{[^}]*\}|"(?:[^"\\]|\\.)*")')
# What Grafana fills in. Windows are wide enough for all that has happened in a test.
_FILLED_IN = {
    "__rate_interval_ms": "300000",
    "__rate_interval": "5m",
    "__interval_ms": "5000",
    "__interval": "5s",
    "__range_s": "300",
    "__range": "5m",
    "__from": "0",
    "__to": "0",
}


class Query(NamedTuple):
    """One expression, and where it stands."""

    where: str
    text: str

    @property
    def without_zero(self) -> str:
        """The same without the zero that it falls back to."""
        return _ZERO.sub("", self.text)


def panel_queries() -> list[Query]:
    """Every query of panels and variables over metrics by Ray's names, with Grafana's variables filled in."""
    found: list[Query] = []
    for path in sorted(ROOT.glob("deploy/grafana/**/*.json")):
        dashboard = json.loads(path.read_text())
        values = dict(map(_value_of, dashboard.get("templating", {}).get("list", [])))
        found += [
            Query(place, _filled_in(_looked_into(text), values))
            for place, text in _expressions(dashboard, path.name)
            if _METRIC.search(text)
        ]
    return found


def rule_files() -> list[Path]:
    """The rule files over metrics by Ray's names; other YAML beside them is none."""
    return [path for path in sorted(ROOT.glob("deploy/prometheus/**/*.y*ml")) if _is_rules(path)]


def rule_queries() -> list[Query]:
    """Every alert's and recording rule's expression over metrics by Ray's names."""
    return [
        Query(f"{path.name}: {rule.get('alert') or rule.get('record')}", str(rule["expr"]).strip())
        for path in rule_files()
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def comparisons_as_values(text: str) -> str:
    """An alert's expression that gives 0 or 1 for each series, not only those that are too high or too low."""
    return "".join(
        piece if piece.startswith(("{", '"')) else _COMPARISON.sub(r"\1 bool ", piece)
        for piece in _QUOTED_OR_BRACED.split(text)  # what compares in there chooses labels
    )


def selectors(text: str) -> list[str]:
    """The instant selectors of metrics in an expression, each once."""
    return list(dict.fromkeys(f"{name}{labels}" for name, labels in _SELECTOR.findall(text)))


def _is_rules(path: Path) -> bool:
    text = path.read_text()
    document: Any = yaml.safe_load(text)
    return isinstance(document, dict) and "groups" in document and bool(_METRIC.search(text))


def _expressions(part: Any, place: str) -> Iterator[tuple[str, str]]:
    """Whatever Grafana sends to its data source: targets of panels, queries of variables and annotations."""
    if isinstance(part, list):
        for item in part:
            yield from _expressions(item, place)
    elif isinstance(part, dict):
        here = f"{place}: {part['title']}" if part.get("title") and "panels" not in part else place
        for key, value in part.items():
            if isinstance(value, str) and key in ("expr", "query", "definition"):
                yield f"{here} {part.get('refId', part.get('name', ''))}".strip(), value
            else:
                yield from _expressions(value, here)


def _value_of(variable: dict[str, Any]) -> tuple[str, str]:
    """A variable's name and value: all, for one that is looked up; else what the dashboard begins with."""
    if variable.get("type") in ("query", "datasource"):
        return variable["name"], ".*"
    current: Any = variable.get("current", {}).get("value", variable.get("query", ""))
    return variable["name"], str(current)


def _looked_into(text: str) -> str:
    """`label_values(selector, label)` and `query_result(expression)` as the expression they look into."""
    inside = re.fullmatch(
        r"label_values\(\s*(.*?)\s*(?:,\s*\w+\s*)?\)|query_result\((.*)\)", text.strip(), re.S
    )
    return text if inside is None else (inside.group(1) or inside.group(2))


def _filled_in(text: str, values: dict[str, str]) -> str:
    values = {**values, **_FILLED_IN}
    for name in sorted(values, key=len, reverse=True):
        text = re.sub(rf"\$\{{{name}(?::\w+)?\}}|\${name}\b|\[\[{name}\]\]", values[name], text)
    return text
