"""One side: xoscar calls to an actor in another process. As a program it prints one JSON line.

It decides what the peer does for its speed: `gather` of plain calls, or xoscar's explicit batch with a batch handler
as its users write it; either way two lots of half the number in flight, so that one is
under way while the other is looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import xoscar

from cluster_app.bench.lots import two_lots
from cluster_app.bench.pipeline import Pace, WrongValue

__all__ = ["XoscarSum", "main", "measure"]

WARM_UP = 2_000  # calls


class XoscarSum(xoscar.Actor):
    """The same work as the entity: adds up, and returns the sum."""

    def __init__(self) -> None:
        self.value = 0

    @xoscar.extensible
    async def increment(self, by: int = 1) -> int:
        """Add `by` and return the sum."""
        self.value += by
        return self.value

    @increment.batch
    async def increment_batch(self, args: list[tuple[int]], kwargs: list[dict[str, int]]) -> list[int]:
        """Do the same for many calls."""
        sums = []
        for (by,) in args:
            self.value += by
            sums.append(self.value)
        return sums

    def pid(self) -> int:
        """The process it is in."""
        return os.getpid()


async def measure(messages: int, in_flight: int, batched: bool) -> Pace:
    """Call one actor in a process of its own `messages` times."""
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1)
    async with pool:
        actor = await xoscar.create_actor(
            # By its importable name: the other process has another __main__.
            _importable(),
            address=pool.external_address,
            allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1),
        )
        if await actor.pid() == os.getpid():
            raise WrongValue("the actor is in this process: its calls would cross none")
        increment = actor.increment

        async def gathered(count: int) -> list[Any]:
            return list(await asyncio.gather(*[increment(1) for _ in range(count)]))

        async def in_one(count: int) -> list[Any]:
            return list(await increment.batch(*[increment.delay(1) for _ in range(count)]))

        lot = in_one if batched else gathered
        await two_lots(lot, WARM_UP, in_flight, before=0)
        return await two_lots(lot, messages, in_flight, before=WARM_UP)


def _importable() -> type[Any]:
    from cluster_app.bench.xoscar_calls import XoscarSum

    return XoscarSum


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument."""
    asked = json.loads(arguments[0])
    pace = asyncio.run(measure(asked["messages"], asked["in_flight"], bool(asked["batched"])))
    print(json.dumps(pace._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
