"""Stories for every alert: one or more in which it must fire and stop again, one or more in which it must not."""

from __future__ import annotations

from tests.unit.dashboards.story import Fires, Sample, Story, gone, grows, stays

__all__ = ["STORIES", "WELL"]

COUNT, BUCKET, ERRORS = (
    "cluster_message_latency_seconds_count",
    "cluster_message_latency_seconds_bucket",
    "cluster_errors_total",
)
OK = {"entity_type": "Counter", "operation": "send", "outcome": "ok"}
ERROR = {**OK, "outcome": "error"}
TYPE = {"entity_type": "Counter"}
SENT, RECEIVED = "cluster_messages_sent_total", "cluster_messages_received_total"
SHARDS, RUNNERS, HEALTHY = "cluster_shards", "cluster_runners", "cluster_runners_healthy"


def error(type_: str) -> dict[str, str]:
    """Labels of errors of this type."""
    return {"entity_type": "Counter", "operation": "send", "type": type_}


GOAL = (
    Story(
        "half of all messages are late for eighty minutes",
        "ClusterAppGoalBurnsFast",
        (
            Sample(COUNT, grows(600, 201), OK),
            Sample(
                BUCKET,
                " ".join([grows(600, 61), grows(300, 80, 36_300), grows(600, 60, 60_600)]),
                {**OK, "le": "0.1"},
            ),
        ),
        {65: None, 135: Fires("50% of messages miss the goal of 100 ms"), 175: None},
    ),
    Story(
        "half of all messages end with Timeout",
        "ClusterAppGoalBurnsFast",
        (
            Sample(COUNT, grows(600, 60), OK),
            Sample(BUCKET, grows(600, 60), {**OK, "le": "0.1"}),
            Sample(COUNT, grows(600, 60), ERROR),
            Sample(ERRORS, grows(600, 60), error("Timeout")),
        ),
        {59: Fires("50% of messages miss the goal of 100 ms")},
    ),
    Story(
        "all messages are late, and none of their buckets ends below the goal",
        "ClusterAppGoalBurnsFast",
        (Sample(COUNT, grows(600, 60), OK),),
        {59: Fires("100% of messages miss the goal of 100 ms")},
    ),
    Story(
        "half of all messages end with an error of the entity's own code, which is an answer",
        "ClusterAppGoalBurnsFast",
        (
            Sample(COUNT, grows(600, 60), OK),
            Sample(BUCKET, grows(600, 60), {**OK, "le": "0.1"}),
            Sample(COUNT, grows(600, 60), ERROR),
            Sample(ERRORS, grows(600, 60), error("HandlerError")),
        ),
        {30: None, 59: None},
    ),
    Story(
        "too few messages for a share of them to mean anything",
        "ClusterAppGoalBurnsFast",
        (Sample(COUNT, grows(1, 120), OK), Sample(BUCKET, stays(0, 120), {**OK, "le": "0.1"})),
        {30: None, 119: None},
    ),
    Story(
        "one in fifty is late for twelve hours",
        "ClusterAppGoalBurnsSlowly",
        (
            Sample(COUNT, grows(3_000, 288), OK),
            Sample(BUCKET, f"{grows(2_940, 145)} {grows(3_000, 143, 426_360)}", {**OK, "le": "0.1"}),
        ),
        {720: Fires("2% of messages miss the goal of 100 ms, for long"), 1_200: None},
        every="5m",
    ),
    Story(
        "one in fifty is late for twelve hours, which wakes nobody",
        "ClusterAppGoalBurnsFast",
        (Sample(COUNT, grows(3_000, 144), OK), Sample(BUCKET, grows(2_940, 144), {**OK, "le": "0.1"})),
        {360: None, 715: None},
        every="5m",
    ),
    Story(
        "one in two hundred is late, as the objective allows",
        "ClusterAppGoalBurnsSlowly",
        (Sample(COUNT, grows(3_000, 288), OK), Sample(BUCKET, grows(2_985, 288), {**OK, "le": "0.1"})),
        {360: None, 1_435: None},
        every="5m",
    ),
)

FULL = (
    Story(
        "one in ten messages is refused for twenty minutes",
        "ClusterAppMailboxFull",
        (
            Sample(SENT, grows(600, 60), {**TYPE, "operation": "send"}),
            Sample(
                ERRORS,
                f"{stays(0, 11)} {grows(60, 20, 60)} {stays(1_200, 29)}",
                error("MailboxFull"),
            ),
        ),
        {
            12: None,
            25: Fires("Mailboxes of Counter are full: 1 messages/s are refused", TYPE),
            45: None,
        },
    ),
    Story(
        "one in two hundred messages is refused",
        "ClusterAppMailboxFull",
        (
            Sample(SENT, grows(6_000, 60), {**TYPE, "operation": "send"}),
            Sample(ERRORS, grows(30, 60), error("MailboxFull")),
        ),
        {30: None, 59: None},
    ),
    Story(
        "many other errors",
        "ClusterAppMailboxFull",
        (
            Sample(SENT, grows(600, 60), {**TYPE, "operation": "send"}),
            Sample(ERRORS, grows(600, 60), error("HandlerError")),
        ),
        {59: None},
    ),
)

RUNNING = (
    Story(
        "one of two runners has no lease for ten minutes",
        "ClusterAppRunnersUnhealthy",
        (
            Sample(RUNNERS, stays(1, 30)),
            Sample(HEALTHY, stays(1, 30)),
            Sample(RUNNERS, stays(1, 30), node="two"),
            Sample(HEALTHY, f"{stays(1, 5)} {stays(0, 10)} {stays(1, 15)}", node="two"),
        ),
        {6: None, 10: Fires("Runners without a valid lease: 1"), 16: None},
    ),
    Story(
        "a runner has no lease for a moment",
        "ClusterAppRunnersUnhealthy",
        (Sample(RUNNERS, stays(1, 20)), Sample(HEALTHY, f"{stays(1, 5)} {stays(0, 1)} {stays(1, 14)}")),
        {5: None, 7: None, 10: None},
    ),
    Story(
        "a node agent is replaced: its last word stands beside the first of the next one",
        "ClusterAppRunnersUnhealthy",
        (
            Sample(RUNNERS, stays(2, 30)),
            Sample(HEALTHY, stays(2, 30)),
            Sample(RUNNERS, f"_x9 {stays(2, 20)}", reporter="agent-2"),
            Sample(HEALTHY, f"_x12 {stays(2, 17)}", reporter="agent-2"),
        ),
        {12: None, 20: None},
    ),
    Story(
        "messages are sent, and all runners are gone",
        "ClusterAppNoHealthyRunner",
        (
            Sample(SENT, grows(60, 40), {**TYPE, "operation": "send"}),
            Sample(HEALTHY, f"{stays(1, 10)} {gone(20)} {stays(1, 10)}", node="two"),
        ),
        {9: None, 15: Fires("Messages are sent, and no runner is healthy"), 31: None},
    ),
    Story(
        "messages are sent, and the only runner has no lease",
        "ClusterAppNoHealthyRunner",
        (
            Sample(SENT, grows(60, 20), {**TYPE, "operation": "send"}),
            Sample(HEALTHY, f"{stays(1, 5)} {stays(0, 15)}"),
        ),
        {15: Fires("Messages are sent, and no runner is healthy")},
    ),
    Story(
        "nobody sends, and there is no runner",
        "ClusterAppNoHealthyRunner",
        (Sample(SENT, stays(100, 40), {**TYPE, "operation": "send"}), Sample(HEALTHY, stays(0, 40))),
        {10: None, 39: None},
    ),
)

CHURN = (
    Story(
        "every entity gets little more than one message, for an hour",
        "ClusterAppActivationChurn",
        (
            Sample("cluster_entity_activations_total", f"{grows(1_200, 61)} {stays(72_000, 60)}", TYPE),
            Sample(RECEIVED, grows(1_500, 121), {**TYPE, "operation": "send"}),
        ),
        {10: None, 45: Fires("Counter: 20 activations/s, for fewer than two messages each", TYPE), 90: None},
    ),
    Story(
        "many activations, each for ten messages",
        "ClusterAppActivationChurn",
        (
            Sample("cluster_entity_activations_total", grows(1_200, 61), TYPE),
            Sample(RECEIVED, grows(12_000, 61), {**TYPE, "operation": "send"}),
        ),
        {45: None, 60: None},
    ),
    Story(
        "one message for each entity, and few of them",
        "ClusterAppActivationChurn",
        (
            Sample("cluster_entity_activations_total", grows(300, 61), TYPE),
            Sample(RECEIVED, grows(300, 61), {**TYPE, "operation": "send"}),
        ),
        {45: None, 60: None},
    ),
)

AGAIN = (
    Story(
        "one in ten messages is sent again for twenty minutes",
        "ClusterAppRedeliveryStorm",
        (
            Sample(SENT, grows(6_000, 60), {**TYPE, "operation": "send"}),
            Sample(
                "cluster_redeliveries_total",
                f"{stays(0, 11)} {grows(600, 20, 600)} {stays(12_000, 29)}",
                {**TYPE, "reason": "RunnerUnavailable"},
            ),
        ),
        {12: None, 25: Fires("10 messages/s are sent again"), 45: None},
    ),
    Story(
        "a runner dies: many are sent again at once, and then no more",
        "ClusterAppRedeliveryStorm",
        (
            Sample(SENT, grows(6_000, 60), {**TYPE, "operation": "send"}),
            Sample(
                "cluster_redeliveries_total",
                f"{stays(0, 11)} {stays(50_000, 49)}",
                {**TYPE, "reason": "RunnerUnavailable"},
            ),
        ),
        {14: None, 20: None, 59: None},
    ),
    Story(
        "one in a hundred is sent again, all the time",
        "ClusterAppRedeliveryStorm",
        (
            Sample(SENT, grows(60_000, 60), {**TYPE, "operation": "send"}),
            Sample("cluster_redeliveries_total", grows(600, 60), {**TYPE, "reason": "RunnerUnavailable"}),
        ),
        {30: None, 59: None},
    ),
)

SILENT = (
    Story(
        "a node's metrics no longer arrive, and its shards are not seen elsewhere; then they do",
        "ClusterAppNodeTelemetryMissing",
        (
            Sample(SHARDS, stays(150, 240)),
            Sample(RUNNERS, stays(1, 240)),
            Sample(SHARDS, f"{stays(150, 60)} {gone(60)} {stays(150, 120)}", node="two"),
            Sample(RUNNERS, f"{stays(1, 60)} {gone(60)} {stays(1, 120)}", node="two"),
        ),
        {
            59: None,
            62: None,
            90: Fires("Nothing is heard of node two, and its shards are not seen elsewhere", node="two"),
            121: None,
        },
    ),
    Story(
        "a node leaves on purpose: it hands its shards over first",
        "ClusterAppNodeTelemetryMissing",
        (
            Sample(SHARDS, f"{stays(150, 60)} {stays(300, 480)}"),
            Sample(RUNNERS, stays(1, 540)),
            Sample(SHARDS, f"{stays(150, 60)} {stays(0, 2)} {gone(478)}", node="two"),
            Sample(RUNNERS, f"{stays(1, 62)} {gone(478)}", node="two"),
        ),
        {64: None, 70: None, 120: None, 539: None},
    ),
    Story(
        "a node dies: the others serve its shards before it is forgotten",
        "ClusterAppNodeTelemetryMissing",
        (
            Sample(SHARDS, f"{stays(150, 60)} {stays(300, 480)}"),
            Sample(RUNNERS, stays(1, 540)),
            # A collector repeats a node's last word for five minutes.
            Sample(SHARDS, f"{stays(150, 65)} {gone(475)}", node="two"),
            Sample(RUNNERS, f"{stays(1, 65)} {gone(475)}", node="two"),
        ),
        {66: None, 75: None, 180: None, 539: None},
    ),
    Story(
        "a node is gone for good with its shards: it is not told for ever",
        "ClusterAppNodeTelemetryMissing",
        (
            Sample(SHARDS, stays(150, 600)),
            Sample(RUNNERS, stays(1, 600)),
            Sample(SHARDS, f"{stays(150, 240)} {gone(360)}", node="two"),
            Sample(RUNNERS, f"{stays(1, 240)} {gone(360)}", node="two"),
        ),
        {
            260: Fires("Nothing is heard of node two, and its shards are not seen elsewhere", node="two"),
            599: None,
        },
    ),
    Story(
        "a node agent was replaced some time before a node left on purpose",
        "ClusterAppNodeTelemetryMissing",
        (
            Sample(SHARDS, f"{stays(150, 32)} {gone(208)}"),
            Sample(SHARDS, f"_x29 {stays(150, 40)} {stays(300, 170)}", reporter="agent-2"),
            Sample(RUNNERS, stays(1, 240), reporter="agent-2"),
            Sample(SHARDS, f"{stays(150, 70)} {stays(0, 2)} {gone(168)}", node="two"),
            Sample(RUNNERS, f"{stays(1, 72)} {gone(168)}", node="two"),
        ),
        {33: None, 80: None, 120: None, 239: None},
    ),
    Story(
        "nothing arrives any more; nobody can tell whether that is wanted, so it is told for an hour",
        "ClusterAppTelemetryMissing",
        (
            Sample(RUNNERS, f"{stays(1, 60)} {gone(180)}"),
            Sample(RUNNERS, f"{stays(1, 60)} {gone(180)}", node="two"),
        ),
        {59: None, 62: None, 80: Fires("Nothing is heard of any cluster", of_cluster=False), 130: None},
    ),
    Story(
        "nothing arrives for half an hour",
        "ClusterAppTelemetryMissing",
        (Sample(RUNNERS, f"{stays(1, 60)} {gone(30)} {stays(1, 30)}"),),
        {80: Fires("Nothing is heard of any cluster", of_cluster=False), 91: None},
    ),
    Story(
        "one of two nodes is gone",
        "ClusterAppTelemetryMissing",
        (Sample(RUNNERS, stays(1, 120)), Sample(RUNNERS, f"{stays(1, 60)} {gone(60)}", node="two")),
        {70: None, 119: None},
    ),
    Story(
        "the runners were given up before the last node was",
        "ClusterAppTelemetryMissing",
        (Sample(RUNNERS, f"{stays(1, 30)} {stays(0, 30)} {gone(60)}"),),
        {70: None, 119: None},
    ),
)

STORIES = (*GOAL, *FULL, *RUNNING, *CHURN, *AGAIN, *SILENT)

WELL = (
    *(
        sample
        for node in ("one", "two")
        for sample in (
            Sample(SENT, grows(600, 181), {**TYPE, "operation": "send"}, node),
            Sample(RECEIVED, grows(600, 181), {**TYPE, "operation": "send"}, node),
            Sample(COUNT, grows(600, 181), OK, node),
            Sample(BUCKET, grows(599, 181), {**OK, "le": "0.1"}, node),
            Sample("cluster_entity_activations_total", grows(20, 181), TYPE, node),
            Sample(
                "cluster_redeliveries_total", stays(3, 181), {**TYPE, "reason": "RunnerUnavailable"}, node
            ),
            Sample(ERRORS, stays(3, 181), error("MailboxFull"), node),
            Sample(SHARDS, stays(150, 181), node=node),
            Sample(RUNNERS, stays(1, 181), node=node),
            Sample(HEALTHY, stays(1, 181), node=node),
        )
    ),
)
"""Two nodes that do their work for three hours."""
