"""Waiting for many replies."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from entities.response import RUNNER_THREADS, EntityResponse

__all__ = ["as_completed", "gather"]

T = TypeVar("T")


def gather(*responses: EntityResponse[T], timeout_s: float | None = None) -> list[T]:
    """The values of all replies, in the order given. Raises the first error met in that order.

    `timeout_s` bounds the whole wait; TimeoutError when it runs out. In a handler, ``await asyncio.gather(...)``.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    return [
        response.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        for response in responses
    ]


def as_completed(
    responses: Iterable[EntityResponse[T]], timeout_s: float | None = None
) -> Iterator[EntityResponse[T]]:
    """Each reply once it is there, the first first; ask it for its value or its error.

    `timeout_s` bounds the whole, from the first one asked for; TimeoutError when it runs out in between. In a handler
    that runs on the event loop it raises RuntimeError instead of waiting: use ``asyncio.as_completed`` there.
    """
    arrived: queue.SimpleQueue[EntityResponse[T]] = queue.SimpleQueue()
    pending = 0
    last: EntityResponse[T] | None = None
    for response in responses:
        pending += 1
        response.add_done_callback(arrived.put)
        last = response
    if last is not None:
        last.route.hurry()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for done in range(pending):
        if arrived.empty() and threading.get_ident() in RUNNER_THREADS:
            raise RuntimeError(
                "as_completed() would block the event loop that runs the entities; in a handler use "
                "'for reply in asyncio.as_completed(...): await reply'"
            )
        try:
            yield arrived.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(
                f"{pending - done} of {pending} replies were not there within {timeout_s} s"
            ) from None
