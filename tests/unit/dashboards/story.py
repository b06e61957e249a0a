"""What a cluster's metrics do over time, and which alert fires when: told once, for either set of names.

Times are minutes since the beginning, and there is a sample every minute unless a story says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster_app.dashboards.names import NameSet

__all__ = ["CLUSTER", "Fires", "Sample", "Story", "gone", "grows", "stays"]

CLUSTER = "session_one"


def stays(value: float, minutes: int) -> str:
    """The value, for so many samples."""
    return f"{value:g}x{minutes - 1}"


def grows(by: float, minutes: int, start: float = 0) -> str:
    """A counter over so many samples: it begins there, and each is more than the one before by that."""
    return f"{start:g}+{by:g}x{minutes - 1}"


def gone(minutes: int) -> str:
    """No sample for so long; the first says that the series ended, as Prometheus notes when a target is gone."""
    return f"stale _x{minutes - 1}"


@dataclass(frozen=True)
class Sample:
    """One series: its name without the set's prefix, its values as promtool reads them, its labels."""

    name: str
    values: str
    labels: dict[str, str] = field(default_factory=dict)
    node: str = "one"
    reporter: str = "agent-1"

    def as_dict(self, names: NameSet) -> dict[str, str]:
        """The series for a set of names."""
        labels = {names.cluster: CLUSTER, names.node: self.node, **self.labels}
        if names.reporter:
            labels[names.reporter] = self.reporter
        inside = ", ".join(f'{label}="{value}"' for label, value in labels.items())
        return {"series": f"{names.prefix}{self.name}{{{inside}}}", "values": self.values}


@dataclass(frozen=True)
class Fires:
    """The alert fires, with this summary; `labels` beside those of the cluster and the severity.

    :ivar node: the node that it names, if it does.
    """

    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    node: str | None = None
    of_cluster: bool = True


@dataclass(frozen=True)
class Story:
    """What happened, and what is to be thought of it.

    :ivar told: in a few words.
    :ivar verdicts: by minute: the alert fires so, or None if it does not.
    """

    told: str
    alert: str
    samples: tuple[Sample, ...]
    verdicts: dict[int, Fires | None]
    every: str = "1m"

    def as_dict(self, names: NameSet, rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The story as one of promtool's tests."""
        return {
            "name": self.told,
            "interval": self.every,
            "input_series": [sample.as_dict(names) for sample in self.samples],
            "alert_rule_test": [
                {
                    "eval_time": f"{minute}m",
                    "alertname": self.alert,
                    "exp_alerts": list(self._expected(names, rules[self.alert], fires)),
                }
                for minute, fires in self.verdicts.items()
            ],
        }

    def _expected(
        self, names: NameSet, rule: dict[str, Any], fires: Fires | None
    ) -> Iterator[dict[str, dict[str, str]]]:
        if fires is None:
            return
        labels = {**rule["labels"], **fires.labels}
        if fires.of_cluster:
            labels[names.cluster] = CLUSTER
        if fires.node:
            labels[names.node] = fires.node
        yield {"exp_labels": labels, "exp_annotations": {**rule["annotations"], "summary": fires.summary}}
