"""One side: raw Ray calls to one synchronous actor, pipelined. As a program it prints one JSON line.

It decides what the peer does for its speed: the plain way that Ray's own benchmark goes, and nothing to slow
it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from cluster_app.bench.pipeline import Pace, pipelined
from cluster_app.bench.ray_instance import fresh_ray

__all__ = ["main", "measure"]

WARM_UP = 500  # calls


class Sum:
    """The same work as the entity: adds up, and returns the sum."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value


def measure(messages: int, in_flight: int) -> Pace:
    """Call one actor `messages` times. Needs a Ray to be there."""
    import ray

    actor: Any = ray.remote(Sum).remote()
    increment = actor.increment

    def values(references: list[Any]) -> Sequence[Any]:
        return ray.get(references)

    pipelined(lambda _: increment.remote(1), values, lambda n: n + 1, messages=WARM_UP, in_flight=in_flight)
    return pipelined(
        lambda _: increment.remote(1),
        values,
        lambda n: n + 1 + WARM_UP,
        messages=messages,
        in_flight=in_flight,
    )


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument, in a fresh Ray without any process of ours."""
    asked = json.loads(arguments[0])
    with fresh_ray():
        pace = measure(asked["messages"], asked["in_flight"])
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
