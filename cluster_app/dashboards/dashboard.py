"""One dashboard: rows of panels, and the variables by which a reader narrows them.

It decides where panels stand, their numbers, and which variables every dashboard has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from cluster_app.dashboards.names import NameSet
from cluster_app.dashboards.panel import DATASOURCE, Panel
from observe.instruments import cluster

__all__ = ["TAG", "Dashboard", "Number", "Row"]

TAG = "cluster-app"
"""By this tag dashboards link to each other."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that the reader types in; queries use it as ``$name``."""

    name: str
    label: str
    description: str
    value: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    :ivar uid: by which links and provisioning know it; at most 40 of ``[A-Za-z0-9_-]``.
    :ivar since: the time shown at first, as Grafana writes it: ``now-1h``.
    :ivar numbers: what the reader may type in, beside the variables that every dashboard has.
    """

    uid: str
    title: str
    description: str
    names: NameSet
    rows: tuple[Row, ...]
    since: str = "now-1h"
    numbers: tuple[Number, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The dashboard as Grafana's JSON model."""
        made = (
            builders.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG, f"cluster-app:{self.names.key}"])
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .time(self.since, "now")
            .refresh("30s")
            .timezone("browser")
            .readonly()
            .link(_to_the_others(self.names))
        )
        for variable in self._variables():
            made.with_variable(variable)
        number = 0
        for row in self.rows:
            number += 1
            made.with_row(builders.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                made.with_panel(panel.build(number))
        model: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
        return model

    def as_json(self) -> str:
        """The dashboard as the text of a file."""
        return json.dumps(self.as_dict(), indent=2) + "\n"

    def _variables(
        self,
    ) -> list[builders.DatasourceVariable | builders.QueryVariable | builders.TextBoxVariable]:
        names = self.names
        # A process that only sends may be on a node without runners.
        runners, sent = f"{names.prefix}{cluster.runners.name}", f"{names.prefix}{cluster.messages_sent.name}"
        either = f'__name__=~"{runners}|{sent}"'
        of_cluster = f'{names.cluster}=~"$SessionName"'
        return [
            builders.DatasourceVariable("datasource")
            .label("Prometheus")
            .description("The Prometheus that has the metrics.")
            .type("prometheus"),
            _choice(
                "SessionName",
                "Cluster",
                "Clusters, by the name of their Ray session.",
                f"label_values({{{either}}}, {names.cluster})",
            ),
            _choice(
                names.node_variable,
                "Node",
                "Nodes of the cluster.",
                f"label_values({{{either}, {of_cluster}}}, {names.node})",
            ),
            _choice(
                "entity_type",
                "Entity type",
                "Entity types; panels that know no type show all.",
                f"label_values({sent}{{{of_cluster}}}, entity_type)",
            ),
            *(
                builders.TextBoxVariable(number.name)
                .label(number.label)
                .description(number.description)
                .default_value(number.value)
                .current(dashboard.VariableOption(text=number.value, value=number.value))
                for number in self.numbers
            ),
        ]


def _choice(name: str, label: str, description: str, query: str) -> builders.QueryVariable:
    # As a dot and a star, "all" also takes in series that lack the label.
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(text=["All"], value=["$__all"]))
    )


def _to_the_others(names: NameSet) -> builders.DashboardLink:
    return (
        builders.DashboardLink("cluster-app")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([f"cluster-app:{names.key}"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
