"""A driver of a run, in a process of its own: ``python -m tests.chaos.driver ADDRESS NAME SEED``.

Sends the mix of messages with so many under way, until its input ends; then it waits for all replies and leaves.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time

import ray

import cluster_app
from cluster_app import Cluster
from tests.chaos import processes
from tests.chaos.sender import Sender
from tests.chaos.workload import Ask, asked, broadcast

_UNDER_WAY = 100  # messages: what waits while a runner is away does not keep the others from work
_PER_SECOND = 120
_BURST = 8  # messages that are sent at one go
_LAST_REPLY_S = 60.0


def main(address: str, name: str, seed: int) -> None:
    """Send until told to end."""
    ray.init(address=address, log_to_driver=False)
    who = f"{name}-{os.getpid()}"
    processes.introduce("driver", who, ray.get_runtime_context().get_node_id())
    chance = random.Random(seed)
    over = threading.Event()
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    room = threading.Semaphore(_UNDER_WAY)
    with _connected() as cluster:
        sender = Sender(who, processes.scribe())
        while not over.is_set():
            for _ in range(_BURST):
                ask: Ask = asked(chance)
                while not room.acquire(timeout=0.5):
                    if over.is_set():
                        break
                else:
                    reply = sender.send(
                        cluster.entity(ask.type, ask.id),
                        ask.method,
                        *ask.args,
                        timeout_s=ask.timeout_s,
                        then=room.release,
                    )
                    if chance.random() < 0.01:
                        reply.cancel()
            if (found := broadcast(chance)) is not None:
                sender.broadcast(cluster, *found)
            time.sleep(_BURST / _PER_SECOND)
        deadline = time.monotonic() + _LAST_REPLY_S
        while sender.unanswered and time.monotonic() < deadline:
            time.sleep(0.02)
    ray.shutdown()


def _connected() -> Cluster:
    """A connection, as soon as a coordinator answers: it may stand still just now."""
    while True:
        with contextlib.suppress(ConnectionError):
            return cluster_app.connect()


def _listen(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
