"""One panel: a question, the queries that answer it, and how to read the answer.

It decides how a kind of panel looks. What is asked is the dashboards' business, and where it stands that of
`dashboard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import bargauge, heatmap, stat, text, timeseries
from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode
from grafana_foundation_sdk.models.text import TextMode

from cluster_app.dashboards.series import or_zero

__all__ = ["BAD", "DATASOURCE", "DOUBTFUL", "GOOD", "Panel", "Query", "Step"]

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The Prometheus that the reader chooses; Ray's Metrics tab chooses by the same variable."""

SHORTEST_STEP = "30s"
"""The rates' windows are four times that. OTLP leaves once a minute unless told otherwise: a window that is
shorter than that would often see nothing grow."""

GOOD, DOUBTFUL, BAD = "green", "orange", "red"

Builder = timeseries.Panel | stat.Panel | bargauge.Panel | heatmap.Panel | text.Panel
Kind = Literal["lines", "stacked", "stat", "buckets", "heatmap", "text"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    :ivar expression: PromQL; where it has no series, 0 is shown.
    :ivar legend: what its series are called; ``{{label}}`` stands for a label's value.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Step:
    """From this value on, in the panel's unit, another colour. None: from the beginning."""

    value: float | None
    colour: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    :ivar kind: ``lines``, ``stacked`` areas, one number (``stat``), a distribution over the whole time shown
        (``buckets``) or as it changes (``heatmap``), or a ``text``.
    :ivar description: what it tells and how to read it; of a text, the text in Markdown.
    :ivar unit: Grafana's name of the values' unit; of the edges, for distributions.
    :ivar steps: colours by value; a panel of lines draws the steps as lines.
    :ivar empty: what is shown where the queries have no series.
    :ivar width: of 24 columns.
    :ivar height: in rows of the grid.
    """

    title: str
    kind: Kind
    description: str
    queries: tuple[Query, ...] = ()
    unit: str = "short"
    steps: tuple[Step, ...] = ()
    empty: str = "Shows 0 where there is none."
    width: int = 8
    height: int = 8

    def build(self, number: int) -> Builder:
        """The panel for Grafana, under this number."""
        panel = self._of_kind()
        panel.id(number).title(self.title).span(self.width).height(self.height)
        if self.kind == "text":
            return panel
        panel.description(f"{self.description} {self.empty}").datasource(DATASOURCE)
        panel.unit(self.unit).interval(SHORTEST_STEP)
        if self.steps:
            steps = [dashboard.Threshold(step.value, step.colour) for step in self.steps]
            panel.thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        for number_of_query, query in enumerate(self.queries):
            panel.with_target(self._target(query).ref_id(chr(ord("A") + number_of_query)))
        return panel

    def _target(self, query: Query) -> Dataquery:
        target = (
            Dataquery()
            .expr(or_zero(query.expression))
            .legend_format(query.legend)
            .editor_mode(QueryEditorMode.CODE)
            .datasource(DATASOURCE)
        )
        target.instant() if self.kind == "buckets" else target.range()
        # Grafana then takes the cumulative buckets apart.
        return target.format(PromQueryFormat.HEATMAP) if self.kind in ("buckets", "heatmap") else target

    def _of_kind(self) -> Builder:
        match self.kind:
            case "lines" | "stacked":
                return self._lines()
            case "stat":
                last = parts.ReduceDataOptions().calcs(["lastNotNull"])
                return stat.Panel().reduce_options(last).graph_mode(common.BigValueGraphMode.AREA)
            case "buckets":
                last = parts.ReduceDataOptions().calcs(["lastNotNull"])
                across = common.VizOrientation.HORIZONTAL
                return bargauge.Panel().reduce_options(last).orientation(across).min(0)
            case "heatmap":
                return heatmap.Panel().y_axis(heatmap.YAxisConfig().unit(self.unit))
            case "text":
                return text.Panel().mode(TextMode.MARKDOWN).content(self.description)

    def _lines(self) -> timeseries.Panel:
        legend = (
            parts.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        hover = (
            parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        panel = timeseries.Panel().legend(legend).tooltip(hover).min(0).line_width(1)
        panel.show_points(common.VisibilityMode.NEVER)
        if self.kind == "stacked":
            panel.fill_opacity(30).stacking(
                parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
            )
        if self.steps:
            dashed = common.GraphThresholdsStyleMode.DASHED
            panel.thresholds_style(parts.GraphThresholdsStyleConfig().mode(dashed))
        return panel
