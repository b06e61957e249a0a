"""Messages to entities in a closed loop, metrics on. As a program it prints one JSON line.

It decides how callers are written: the natural way, one task each that awaits its replies.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from cluster_app.bench.closed_loop import closed_loop
from cluster_app.bench.counters import check_counted, counter_ids
from cluster_app.bench.pipeline import Pace
from cluster_app.bench.ray_instance import fresh_cluster, fresh_ray
from entities.catalog import Counter

__all__ = ["main", "measure"]

WARM_UP = 10  # messages per caller


async def measure(cluster: Any, messages: int, callers: int) -> Pace:
    """Send `messages`, rounded down to as many for each caller, one at least."""
    sends = [cluster.entity(Counter, entity_id).increment.remote for entity_id in counter_ids(range(callers))]
    await closed_loop(sends, WARM_UP, before=0)
    return await closed_loop(sends, max(1, messages // callers), before=WARM_UP)


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray with one runner."""
    asked = json.loads(arguments[0])
    with fresh_ray(), fresh_cluster() as cluster:
        pace = asyncio.run(measure(cluster, asked["messages"], asked["in_flight"]))
        check_counted(cluster, pace.messages + WARM_UP * asked["in_flight"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
