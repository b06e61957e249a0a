"""The dashboards and rules that are deployed: made of their source, sound, and about nothing but declared metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_app.dashboards.goal import ANSWERS, GOAL_S
from cluster_app.dashboards.names import NAME_SETS, OTLP, NameSet
from observe.failure import REASONS
from observe.instruments import LATENCY_EDGES_S, Instrument, cluster
from tests.deployed_files import deployed_files
from tests.promtool import promtool
from tests.source import ROOT
from tests.unit.dashboards.queries import Query, grouped, panels, queries, selected, with_values

BOTH = pytest.mark.parametrize("names", NAME_SETS.values(), ids=NAME_SETS)

ZERO = " or on() vector(0)"


def dashboards(names: NameSet) -> list[dict[str, Any]]:
    """The deployed dashboards of a set of names."""
    files = sorted((ROOT / "deploy/grafana").glob(f"*-{names.key}.json"))
    return [json.loads(file.read_text()) for file in files]


def rules(names: NameSet) -> list[dict[str, Any]]:
    """The deployed rules of a set of names."""
    file = ROOT / f"deploy/prometheus/cluster-app-alerts-{names.key}.yaml"
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def every_query(names: NameSet) -> list[Query]:
    """All queries of panels and rules of a set of names."""
    of_rules = [Query(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules(names)]
    return [query for dashboard in dashboards(names) for query in queries(dashboard)] + of_rules


def series_of(names: NameSet, instrument: Instrument) -> dict[str, set[str]]:
    """The series that an instrument leaves in Prometheus, each with the labels that it may have."""
    labels = {*instrument.labels, names.cluster, names.node}
    name = names.prefix + instrument.name
    if instrument.kind != "histogram":
        return {name: labels}
    return {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}


def declared(names: NameSet) -> dict[str, set[str]]:
    """All series of all instruments, with their labels."""
    return {name: labels for one in cluster for name, labels in series_of(names, one).items()}


def test_what_is_deployed_is_what_the_source_gives() -> None:
    """`python -m tests.deployed_files` changes nothing, and no file of ours is left over."""
    wanted = deployed_files()
    assert {path: (ROOT / path).read_text() for path in wanted if (ROOT / path).exists()} == wanted
    there = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("deploy/grafana/*", "deploy/prometheus/*")
        for path in ROOT.glob(pattern)
    }
    assert there == set(wanted)


@BOTH
def test_dashboards_are_sound(names: NameSet) -> None:
    """Panels have numbers and titles of their own, fit into the grid without overlap, and tell what they are in."""
    assert len(dashboards(names)) == 2
    for dashboard in dashboards(names):
        found = panels(dashboard)
        numbers = [panel["id"] for panel in found]
        assert sorted(numbers) == sorted(set(numbers)) and min(numbers) > 0
        titles = [panel["title"] for panel in found if panel["type"] != "row"]
        assert len(titles) == len(set(titles)) and all(titles)
        taken: set[tuple[int, int]] = set()
        for panel in found:
            at = panel["gridPos"]
            cells = {
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            }
            assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
            taken |= cells
            if panel["type"] in ("row", "text"):
                continue
            assert panel["description"].endswith((".", ")")), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
            refs = [target["refId"] for target in panel["targets"]]
            assert refs and len(refs) == len(set(refs)), panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


def test_uids_are_unique_and_short() -> None:
    """One Grafana takes the dashboards of both sets at once."""
    uids = [dashboard["uid"] for names in NAME_SETS.values() for dashboard in dashboards(names)]
    assert len(uids) == len(set(uids)) == 4
    assert all(re.fullmatch(r"[\w-]{1,40}", uid) for uid in uids)


@BOTH
def test_every_panel_answers_also_where_there_is_nothing(names: NameSet) -> None:
    """Each query of a panel has a zero to show, and the description says so."""
    for dashboard in dashboards(names):
        assert [query for query in queries(dashboard) if not query.text.endswith(ZERO)] == []
        for panel in panels(dashboard):
            if panel.get("targets"):
                assert re.search(r" Shows (0|100%) where there is no\w*", panel["description"]), panel[
                    "title"
                ]


@BOTH
def test_queries_ask_for_declared_metrics_by_labels_that_they_have(names: NameSet) -> None:
    """Every series of every query belongs to a declared instrument or is recorded by a rule, and so do its labels."""
    known = declared(names)
    recorded = {rule["record"]: {names.cluster} for rule in rules(names) if "record" in rule}
    for query in every_query(names):
        labels: set[str] = set()
        for series in selected(query.text):
            assert series.name in known | recorded, query
            labels |= (known | recorded)[series.name]
            assert set(series.matchers) <= (known | recorded)[series.name] | {"le"}, query
        assert grouped(query.text) <= labels | ({names.reporter} if names.reporter else set()), query


@BOTH
def test_every_instrument_is_in_some_panel(names: NameSet) -> None:
    """Nothing is measured that no dashboard shows."""
    shown = {
        series.name
        for board in dashboards(names)
        for query in queries(board)
        for series in selected(query.text)
    }
    assert [one.name for one in cluster if not shown & set(series_of(names, one))] == []


@BOTH
def test_bucket_edges_in_queries_exist(names: NameSet) -> None:
    """A query that asks for one bucket asks for one that is counted."""
    edges = {
        series.matchers["le"]
        for query in every_query(names)
        for series in selected(query.text)
        if "le" in series.matchers
    }
    assert edges == {f"{GOAL_S:g}"} and GOAL_S in LATENCY_EDGES_S


@BOTH
def test_variables_in_queries_are_declared(names: NameSet) -> None:
    """Each `$name` of a query is one of the dashboard's variables, or Grafana's own; each variable is used."""
    for dashboard in dashboards(names):
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        text = json.dumps(dashboard["panels"]) + json.dumps(
            [v.get("query") for v in dashboard["templating"]["list"]]
        )
        used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__range"}
        assert used == variables, dashboard["uid"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                assert variable["includeAll"] and variable["allValue"] == ".*"
                selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
                names_asked = "|".join(series.name for series in selected(selector)).split("|")
                for name in names_asked:
                    assert label in declared(names)[name]


@BOTH
def test_prometheus_parses_every_query(names: NameSet, tmp_path: Path) -> None:
    """As rules of a file, all queries of the panels pass Prometheus' own check."""
    found = [query for dashboard in dashboards(names) for query in queries(dashboard)]
    recorded = [
        {"record": f"query_{number}", "expr": with_values(query.text)} for number, query in enumerate(found)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", file)


def test_both_sets_show_the_same_panels() -> None:
    """Whoever changes from one way to the other finds every panel in its place."""
    one, other = (
        [[(panel["title"], panel["gridPos"]) for panel in panels(board)] for board in dashboards(names)]
        for names in NAME_SETS.values()
    )
    assert one == other


def test_answers_are_errors_that_exist() -> None:
    """The errors that count as answers are reasons of the error table."""
    assert set(ANSWERS) < set(REASONS)


def test_only_what_a_kind_has_can_be_asked_of_it() -> None:
    """A gauge has no rate, a histogram no plain series, and no bucket ends where none was declared."""
    with pytest.raises(ValueError, match="cluster_runners is a gauge, no counter"):
        OTLP.counter(cluster.runners)
    with pytest.raises(ValueError, match="cluster_errors_total is a counter, no gauge"):
        OTLP.gauge(cluster.errors)
    with pytest.raises(ValueError, match=r"no bucket of cluster_message_latency_seconds ends at 0\.2"):
        OTLP.buckets(cluster.message_latency, within=0.2)
    assert str(OTLP.buckets(cluster.message_latency, within=1.0)).endswith('{le=~"1(\\\\.0)?"}')
