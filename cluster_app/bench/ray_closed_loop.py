"""One side: raw Ray calls in a closed loop. As a program it prints one JSON line.

It decides what the peer does for its speed. One synchronous actor answers in the order called, so whoever waits for
the oldest call and then makes another does what so many callers would. Other ways are `ray.wait`,
awaiting in tasks, and threads.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from cluster_app.bench.pipeline import Pace, check_value
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.sums import Sum

__all__ = ["closed_loop_of_calls", "measure"]

WARM_UP = 500  # calls


def measure(messages: int, in_flight: int) -> Pace:
    """Call one actor `messages` times. Needs a Ray to be there."""
    import ray

    actor: Any = ray.remote(Sum).remote()
    closed_loop_of_calls(ray.get, actor.increment.remote, WARM_UP, in_flight, before=0)
    return closed_loop_of_calls(ray.get, actor.increment.remote, messages, in_flight, before=WARM_UP)


def closed_loop_of_calls(get: Any, call: Any, messages: int, in_flight: int, before: int) -> Pace:
    """Make `messages` calls, the next whenever the oldest is answered, and check each value.

    :param get: waits for what `call` returned; its value.
    :param before: what the actor has added up already.
    :raises WrongValue: a value is not the expected int.
    """
    cpu_at_start_s = time.process_time()
    started_s = time.perf_counter()
    calls = deque(call(1) for _ in range(min(in_flight, messages)))
    sent = len(calls)
    for number in range(messages):
        check_value(number, get(calls.popleft()), before + number + 1)
        if sent < messages:
            calls.append(call(1))
            sent += 1
    elapsed_s = time.perf_counter() - started_s
    return Pace(messages, elapsed_s, time.process_time() - cpu_at_start_s)


if __name__ == "__main__":
    run_side(measure)
