"""The alerts fire when they must, don't when they mustn't, and stop: Prometheus' own test of rules, for both sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_app.dashboards.names import NAME_SETS, NameSet
from tests.promtool import promtool
from tests.source import ROOT
from tests.tables import section
from tests.unit.dashboards.stories import STORIES, WELL
from tests.unit.dashboards.story import Story

BOTH = pytest.mark.parametrize("names", NAME_SETS.values(), ids=NAME_SETS)


def rule_file(names: NameSet) -> Path:
    """The rules as they are deployed."""
    return ROOT / f"deploy/prometheus/cluster-app-alerts-{names.key}.yaml"


def alerts_of(names: NameSet) -> dict[str, dict[str, Any]]:
    """The alerts as they are deployed, by name."""
    groups = yaml.safe_load(rule_file(names).read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def rules_in(folder: Path, names: NameSet, *alerts: str) -> Path:
    """The deployed rules, of some alerts and what those need, worked out whenever there is a sample.

    All of them twice a minute for a day take promtool long.
    """
    groups = yaml.safe_load(rule_file(names).read_text())["groups"]
    conditions = " ".join(alerts_of(names)[alert]["expr"] for alert in alerts)
    for group in groups:
        del group["interval"]
        group["rules"] = [
            rule
            for rule in group["rules"]
            if rule.get("alert") in alerts or rule.get("record", "-") in conditions
        ]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [group for group in groups if group["rules"]]}))
    return file


def tell(rules: Path, stories: list[dict[str, Any]]) -> None:
    """Have Prometheus play the stories against the rules."""
    by_interval: dict[str, list[dict[str, Any]]] = {}
    for story in stories:
        by_interval.setdefault(story["interval"], []).append(story)
    for interval, some in by_interval.items():
        file = rules.with_name(f"stories-{interval}.yaml")
        test = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": some}
        file.write_text(yaml.safe_dump(test))
        promtool("test", "rules", file)


@BOTH
@pytest.mark.parametrize("alert", sorted(alerts_of(NAME_SETS["otlp"])))
def test_an_alert_fires_and_stops_as_its_stories_say(names: NameSet, alert: str, tmp_path: Path) -> None:
    """Each verdict of each story of the alert holds, with the labels and texts that people will read."""
    stories = [story for story in STORIES if story.alert == alert]
    tell(rules_in(tmp_path, names, alert), [story.as_dict(names, alerts_of(names)) for story in stories])


@BOTH
def test_a_cluster_that_is_well_wakes_nobody(names: NameSet, tmp_path: Path) -> None:
    """With traffic, entities and two nodes for three hours, and with nothing at all, no alert of any kind fires."""
    none = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": "3h"}
    well = Story("all is well", "", WELL, {}).as_dict(names, {})
    nothing = {"interval": "1m", "input_series": []}
    rules = rules_in(tmp_path, names, *alerts_of(names))
    tell(rules, [{**test, "promql_expr_test": [none]} for test in (well, nothing)])


def test_every_alert_has_stories_of_both_kinds() -> None:
    """Each alert fires in a story and stops in it, and has one in which it never does."""
    for alert in alerts_of(NAME_SETS["otlp"]):
        verdicts = [list(story.verdicts.values()) for story in STORIES if story.alert == alert]
        assert any(None in some and any(some) and some[-1] is None for some in verdicts), alert
        assert any(not any(some) for some in verdicts), alert


def test_a_rule_that_never_fires_is_found(tmp_path: Path) -> None:
    """The stories bite: with another threshold one of them fails."""
    names = NAME_SETS["ray"]
    spoilt = rules_in(tmp_path, names, "ClusterAppMailboxFull")
    text = spoilt.read_text()
    assert "> 0.01 * sum" in text
    spoilt.write_text(text.replace("> 0.01 * sum", "> 0.2 * sum"))
    story = next(story for story in STORIES if story.alert == "ClusterAppMailboxFull")
    with pytest.raises(AssertionError, match="ClusterAppMailboxFull"):
        tell(spoilt, [story.as_dict(names, alerts_of(names))])


@BOTH
def test_prometheus_takes_the_rules(names: NameSet) -> None:
    """promtool finds no fault in syntax and templates of the deployed rules."""
    assert "SUCCESS" in promtool("check", "rules", rule_file(names))


@BOTH
def test_every_alert_says_what_it_means_and_what_to_do(names: NameSet) -> None:
    """Severity, summary and description are there, and the runbook has the section that each alert links to."""
    runbook = (ROOT / "docs/runbook.md").read_text()
    sections = {line.removeprefix("## ").lower() for line in runbook.splitlines() if line.startswith("## ")}
    for name, alert in alerts_of(names).items():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["for"]
        assert alert["annotations"]["summary"] and alert["annotations"]["description"].endswith(".")
        page, _, section = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md" and section == name.lower() and section in sections


def test_readme_lists_every_alert() -> None:
    """README's table has each alert with its severity, in their order."""
    rows = _alert_table()
    assert [(row["alert"], row["severity"]) for row in rows] == [
        (name, alert["labels"]["severity"]) for name, alert in alerts_of(NAME_SETS["otlp"]).items()
    ]


def _alert_table() -> list[dict[str, str]]:
    lines = section("Dashboards and alerts").splitlines()
    first = lines.index("| alert | severity | when |")
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in lines[first + 2 :]
        if line[:1] == "|"
    ]
    return [dict(zip(("alert", "severity", "when"), row, strict=True)) for row in rows]
