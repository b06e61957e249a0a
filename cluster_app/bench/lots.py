"""The loop of a peer that takes many calls at a time: two lots under way, every value checked.

Apart from xoscar's own side, since importing xoscar changes how all exceptions of a process are pickled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cluster_app.bench.pipeline import Pace, WrongValue

__all__ = ["two_lots"]


async def two_lots(
    lot: Callable[[int], Awaitable[list[Any]]], messages: int, in_flight: int, before: int
) -> Pace:
    """Keep two lots under way, and check each value.

    The later lot can be handled first, so what a message must return is any sum that no other has returned.

    :param lot: makes so many calls; their values.
    :param before: what the actor has added up already.
    :raises WrongValue: a value is not such an int.
    """
    half = max(1, in_flight // 2)
    sent = 0
    returned = bytearray(messages)  # 1 for each sum, from before + 1, that somebody has

    async def worker() -> None:
        nonlocal sent
        while sent < messages:
            first, count = sent, min(half, messages - sent)
            sent += count
            values = await lot(count)
            if len(values) != count:
                raise WrongValue(f"{count} messages, but {len(values)} values")
            for number, value in enumerate(values, start=first):
                place = value - before - 1 if type(value) is int else -1
                if not 0 <= place < messages or returned[place]:
                    raise WrongValue(f"message {number} returned {value!r}, which is no new sum")
                returned[place] = 1

    cpu_at_start_s = time.process_time()
    started_s = time.perf_counter()
    await asyncio.gather(worker(), worker())
    elapsed_s = time.perf_counter() - started_s
    return Pace(messages, elapsed_s, time.process_time() - cpu_at_start_s)
