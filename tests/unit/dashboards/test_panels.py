"""What panels say of a cluster of which every number is known: Prometheus works the queries out, for both sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_app.dashboards.dashboard import Dashboard
from cluster_app.dashboards.idle_time import idle_time
from cluster_app.dashboards.names import NAME_SETS, NameSet
from cluster_app.dashboards.overview import overview
from observe.instruments import BATCH_EDGES, LATENCY_EDGES_S, LIFETIME_EDGES_S
from tests.promtool import promtool
from tests.unit.dashboards.queries import panels, with_values
from tests.unit.dashboards.story import Sample, grows, stays

BOTH = pytest.mark.parametrize("names", NAME_SETS.values(), ids=NAME_SETS)

MINUTES = 121
TYPE = {"entity_type": "Counter"}
GONE = {"entity_type": "Gone"}
SEND = {**TYPE, "operation": "send"}


def histogram(
    name: str, edges: tuple[float, ...], below: dict[float, float], sum_: float, labels: dict[str, str]
) -> list[Sample]:
    """A histogram that counts so many values a minute at or below each edge; the last number is that of all."""
    samples, reached = [], 0.0
    for edge in (*edges, float("inf")):
        reached = below.get(edge, reached)
        le = "+Inf" if edge == float("inf") else f"{edge:g}"
        samples.append(Sample(f"{name}_bucket", grows(reached, MINUTES), {**labels, "le": le}))
    return [
        *samples,
        Sample(f"{name}_count", grows(reached, MINUTES), labels),
        Sample(f"{name}_sum", grows(sum_, MINUTES), labels),
    ]


CLUSTER = (
    Sample("cluster_messages_sent_total", grows(600, MINUTES), SEND),
    Sample("cluster_messages_received_total", grows(600, MINUTES), SEND),
    # 480 in time, 60 late, 60 errors: half of them of the entity's own code, half for want of a runner.
    *histogram(
        "cluster_message_latency_seconds",
        LATENCY_EDGES_S,
        {0.001: 480, 0.5: 540},
        30,
        {**SEND, "outcome": "ok"},
    ),
    *histogram(
        "cluster_message_latency_seconds", LATENCY_EDGES_S, {0.001: 60}, 0.6, {**SEND, "outcome": "error"}
    ),
    Sample("cluster_errors_total", grows(30, MINUTES), {**SEND, "type": "HandlerError"}),
    Sample("cluster_errors_total", grows(30, MINUTES), {**SEND, "type": "RunnerUnavailable"}),
    Sample("cluster_redeliveries_total", grows(6, MINUTES), {**TYPE, "reason": "RunnerUnavailable"}),
    Sample("cluster_entities", stays(100, MINUTES), TYPE),
    Sample("cluster_entities", stays(20, MINUTES), TYPE, node="two"),
    Sample("cluster_mailbox_depth", stays(7, MINUTES), TYPE),
    Sample("cluster_entity_activations_total", grows(60, MINUTES), TYPE),
    Sample("cluster_entity_deactivations_total", grows(45, MINUTES), {**TYPE, "reason": "idle"}),
    Sample("cluster_entity_deactivations_total", grows(15, MINUTES), {**TYPE, "reason": "explicit"}),
    # Of another type nobody is alive, and nobody comes.
    Sample("cluster_entity_deactivations_total", grows(6, MINUTES), {**GONE, "reason": "idle"}),
    *histogram("cluster_entity_lifetime_seconds", LIFETIME_EDGES_S, {60: 45, 300: 60}, 6_000, TYPE),
    *histogram(
        "cluster_entity_activation_seconds", LATENCY_EDGES_S, {0.05: 60}, 1.2, {**TYPE, "outcome": "ok"}
    ),
    *histogram(
        "cluster_handler_duration_seconds",
        LATENCY_EDGES_S,
        {0.01: 600},
        3,
        {**TYPE, "method": "increment", "outcome": "ok"},
    ),
    *histogram("cluster_mailbox_wait_seconds", LATENCY_EDGES_S, {0.001: 600}, 0.3, TYPE),
    *histogram("cluster_batch_messages", BATCH_EDGES, {50: 60}, 1_800, {"direction": "out"}),
    Sample("cluster_slow_handlers_total", grows(3, MINUTES), {**TYPE, "method": "increment"}),
    *(
        Sample(name, stays(value, MINUTES), node=node)
        for node in ("one", "two")
        for name, value in (
            ("cluster_runners", 2),
            ("cluster_runners_healthy", 2 if node == "one" else 1),
            ("cluster_shards", 150),
            ("cluster_singletons", 1),
        )
    ),
    Sample("cluster_shard_handoffs_total", grows(12, MINUTES), {"reason": "join", "outcome": "ok"}),
    *histogram("cluster_shard_handoff_seconds", LATENCY_EDGES_S, {0.05: 12}, 0.3, {"reason": "join"}),
)
"""A cluster of two nodes that does the same every minute; a histogram's quantile is exact where one bucket has all."""

SAID: dict[str, dict[str, list[tuple[dict[str, str], float]]]] = {
    "overview": {
        "Sent": [({}, 10)],
        # 480 in time and 30 that are answers, of 600.
        "Within 100 ms": [({}, 0.85)],
        "Missed 100 ms by type": [(TYPE, 0.15)],
        "Errors": [({}, 0.1)],
        "Share that failed": [(TYPE, 0.1)],
        "Errors by type": [
            ({**TYPE, "type": "HandlerError"}, 0.5),
            ({**TYPE, "type": "RunnerUnavailable"}, 0.5),
        ],
        "Redelivered": [({**TYPE, "reason": "RunnerUnavailable"}, 0.1)],
        "Messages in a batch": [({"direction": "out"}, 30), ({"direction": "out"}, 48)],
        "Batches": [({"direction": "out"}, 1)],
        "Live entities": [({}, 120)],
        "Runners not healthy": [({}, 1)],
        "Runners healthy": [({}, 3)],
        "Shards": [({}, 300)],
        "Singletons": [({}, 2)],
        "Runners healthy of all": [({}, 3), ({}, 4)],
        "Mailbox depth": [(TYPE, 7)],
        "Mailbox wait": [(TYPE, 0.00075), (TYPE, 0.000995)],
        "Handler time in use": [({**TYPE, "method": "increment"}, 0.05)],
        "Handlers that stalled": [({**TYPE, "method": "increment"}, 0.05)],
        "Activations against deactivations": [
            ({}, 1),
            ({"reason": "idle"}, 0.85),
            ({"reason": "explicit"}, 0.25),
        ],
        "Handoffs": [({"reason": "join", "outcome": "ok"}, 0.2)],
        "Handoff duration": [({"reason": "join"}, 0.03), ({"reason": "join"}, 0.0496)],
    },
    "idle-time": {
        "Lives that ended idle": [(TYPE, 0.75), (GONE, 1)],
        "Lifetimes by type": [(TYPE, 50), (TYPE, 204)],
        "Activations": [(TYPE, 1)],
        # The number of live entities does not grow: each took the place of another.
        "Re-activations": [(TYPE, 1)],
        "Lives per place and hour": [(TYPE, 30)],
        "Messages per activation": [(TYPE, 10)],
        "Messages that wait for an activation": [(TYPE, 0.1)],
        "Duration of an activation": [(TYPE, 0.02), (TYPE, 0.0496)],
        "Activation against one message": [(TYPE, 4)],
        # 0.75 lives a second wait for 60 s, and would for 300 s.
        "Live, and of them only waiting": [(TYPE, 120), (TYPE, 45), (GONE, 6)],
        "Live with the one that is tried": [(TYPE, 120), (TYPE, 300), (GONE, 24)],
    },
}
"""By dashboard and panel: each series that the panel shows, its labels and its value, query by query."""


def expectations(
    dashboard: Dashboard, said: dict[str, list[tuple[dict[str, str], float]]]
) -> list[dict[str, Any]]:
    """What promtool is to find: each series of each query of these panels."""
    found: list[dict[str, Any]] = []
    of_title = {panel["title"]: panel for panel in panels(dashboard.as_dict()) if panel.get("targets")}
    for title, samples in said.items():
        texts = [with_values(target["expr"]) for target in of_title[title]["targets"]]
        # Either each query has one series, or the last query has what is left.
        split = [samples[:number] for number in range(1, len(texts))]
        by_query = [some[-1:] for some in split] + [samples[len(texts) - 1 :]]
        for text, some in zip(texts, by_query, strict=True):
            found.append({"expr": text, "eval_time": "2h", "exp_samples": [_sample(*one) for one in some]})
    return found


def _sample(labels: dict[str, str], value: float) -> dict[str, Any]:
    inside = ", ".join(f'{label}="{text}"' for label, text in labels.items())
    return {"labels": f"{{{inside}}}", "value": value}


@BOTH
@pytest.mark.parametrize("which", SAID)
def test_panels_say_what_is_true(names: NameSet, which: str, tmp_path: Path) -> None:
    """Of a cluster that does the same every minute, each panel shows the numbers that its maker would."""
    dashboard = overview(names) if which == "overview" else idle_time(names)
    # Rounded as floats come out of sums and quotients, not by a tolerance of the question.
    asked = [
        {**one, "expr": f"round({one['expr']}, 0.000001)"} for one in expectations(dashboard, SAID[which])
    ]
    play(names, [sample.as_dict(names) for sample in CLUSTER], asked, tmp_path)


@BOTH
def test_panels_show_their_zero_where_there_is_nothing(names: NameSet, tmp_path: Path) -> None:
    """In an empty Prometheus every query of every panel has one series without labels: 0, or 100 % within the goal."""
    asked = [
        {
            "expr": with_values(target["expr"]),
            "eval_time": "5m",
            "exp_samples": [_sample({}, 1 if panel["title"] == "Within 100 ms" else 0)],
        }
        for dashboard in (overview(names), idle_time(names))
        for panel in panels(dashboard.as_dict())
        for target in panel.get("targets", ())
    ]
    assert len(asked) > 50
    play(names, [], asked, tmp_path)


def play(names: NameSet, series: list[dict[str, str]], asked: list[dict[str, Any]], folder: Path) -> None:
    """Have Prometheus answer the queries over the series."""
    file = folder / "panels.yaml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1h", "tests": [test]}))
    promtool("test", "rules", file)
