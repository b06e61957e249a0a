"""The nouns of Prometheus' rules: what is worked out ahead, what wakes somebody, and the file of both.

It decides how they are written down. When somebody is woken is said in `alerts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import yaml

__all__ = ["Alert", "Group", "Recorded", "Severity", "as_yaml"]

Severity = Literal["critical", "warning"]
"""Critical: wake somebody. Warning: look at it in working hours."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A series that Prometheus works out ahead, because queries of long windows are dear."""

    name: str
    expression: str

    def as_dict(self, runbook: str) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {"record": self.name, "expr": self.expression}


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that somebody has to know of.

    :ivar holds_for: how long it has to hold, as Prometheus writes durations.
    :ivar summary: one line; ``{{ $labels.x }}`` and ``{{ $value }}`` stand for what was found.
    :ivar description: what it means for those who use the cluster.
    """

    name: str
    severity: Severity
    expression: str
    holds_for: str
    summary: str
    description: str

    def as_dict(self, runbook: str) -> dict[str, Any]:
        """The rule as Prometheus reads it; `runbook` is the address of the page with a section for each alert."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.holds_for,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbook}#{self.name.lower()}",
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates together, in their order.

    :ivar every: how often, as Prometheus writes durations.
    """

    name: str
    every: str
    rules: tuple[Recorded | Alert, ...]

    def as_dict(self, runbook: str) -> dict[str, Any]:
        """The group as Prometheus reads it."""
        rules = [rule.as_dict(runbook) for rule in self.rules]
        return {"name": self.name, "interval": self.every, "rules": rules}


class _Readable(yaml.SafeDumper):
    """Texts of several lines stay so."""


def _text(dumper: _Readable, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Readable.add_representer(str, _text)


def as_yaml(groups: Iterable[Group], runbook: str) -> str:
    """The text of a rule file."""
    content = {"groups": [group.as_dict(runbook) for group in groups]}
    return yaml.dump(content, Dumper=_Readable, sort_keys=False, width=200, allow_unicode=True)
