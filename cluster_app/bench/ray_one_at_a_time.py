"""One side: raw Ray calls to one asynchronous actor, one at a time. As a program it prints one JSON line."""

from __future__ import annotations

import json
import sys
from typing import Any

from cluster_app.bench.latency import Latency, one_at_a_time
from cluster_app.bench.ray_instance import fresh_ray
from cluster_app.bench.sums import AsyncSum

__all__ = ["main", "measure"]

WARM_UP = 200  # calls


def measure(messages: int) -> Latency:
    """Call one actor `messages` times, each once the last is answered. Needs a Ray to be there."""
    import ray

    actor: Any = ray.remote(AsyncSum).remote()
    remote = actor.increment.remote

    def call(by: int) -> Any:
        return ray.get(remote(by))

    one_at_a_time(call, WARM_UP, before=0)
    return one_at_a_time(call, messages, before=WARM_UP)


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray without any process of ours."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        latency = measure(asked["messages"])
    print(json.dumps(latency._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
