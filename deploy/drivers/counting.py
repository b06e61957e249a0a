"""What each driver here does: entities count the visits to pages, then totals and metrics are read.

The entity type is defined beside the drivers, as a user's own would be: its code reaches the runners from here.
"""

from __future__ import annotations

import json

from cluster_app import Cluster, Entity, entity, gather, message

PAGES = ("home", "docs", "prices")
VISITS = 100  # to each page


@entity(max_idle_time=None)  # a total is kept until the service ends
class PageCounter(Entity):
    """The visits to one page."""

    def __init__(self) -> None:
        self.visits = 0

    @message
    def visit(self) -> int:
        """Count a visit; returns the total."""
        self.visits += 1
        return self.visits


def count_visits(cluster: Cluster, way: str) -> None:
    """Visit each page, and print what came of it as one line of JSON.

    :param way: how this driver came in; each way has pages of its own.
    """
    pages = {page: cluster.entity(PageCounter, f"{way}/{page}") for page in PAGES}
    visits = [page.visit.remote() for page in pages.values() for _ in range(VISITS)]
    replies = gather(*visits, timeout_s=60)
    # The last reply of each page is its total so far: another run of the same driver goes on from there.
    totals = dict(zip(pages, replies[VISITS - 1 :: VISITS], strict=True))
    metrics = cluster.metrics()
    of_pages = {"entity_type": "PageCounter"}
    latency = metrics.histogram("cluster_message_latency_seconds", **of_pages)
    print(
        json.dumps(
            {
                "way": way,
                "sent": len(visits),
                "totals": totals,
                "runners": len(cluster.status().runners),
                "metrics": {  # of all drivers since the service was started
                    "cluster_messages_sent_total": metrics.value("cluster_messages_sent_total", **of_pages),
                    "cluster_messages_received_total": metrics.value(
                        "cluster_messages_received_total", **of_pages
                    ),
                    "cluster_errors_total": metrics.value("cluster_errors_total", **of_pages),
                    "cluster_message_latency_seconds p99": latency.quantile(0.99),
                },
            }
        ),
        flush=True,
    )
