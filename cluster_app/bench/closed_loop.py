"""The closed loop: so many callers, each of which sends, has its reply, checks it and sends again.

It decides what a caller does. How the callers of a peer are run is that peer's side's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cluster_app.bench.pipeline import Pace, check_value

__all__ = ["closed_loop"]


async def closed_loop(sends: Sequence[Callable[[int], Awaitable[Any]]], each: int, before: int) -> Pace:
    """Run one caller per entity, each of which sends `each` messages, one after another.

    :param sends: sends to a caller's own entity, which nobody else sends to.
    :param before: messages that each entity has had already.
    :raises WrongValue: a value is not the expected int.
    """

    async def caller(send: Callable[[int], Awaitable[Any]]) -> None:
        for number in range(before, before + each):
            check_value(number, await send(1), number + 1)

    cpu_at_start_s = time.process_time()
    started_s = time.perf_counter()
    await asyncio.gather(*map(caller, sends))
    elapsed_s = time.perf_counter() - started_s
    return Pace(each * len(sends), elapsed_s, time.process_time() - cpu_at_start_s)
