"""What is different in a driver that reaches its cluster through Ray Client (``ray://``).

Such a driver is in no node of the cluster: Ray runs a process for it on the head node, which makes its calls, and
both talk over one stream. One thread reads that stream and calls back from there. A callback that makes a call waits
for that very thread: a new reference does not know its id until the stream has brought it. So nothing of ours runs on
that thread. Decides where it runs instead; what a call is for is not its business.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ray.util.client import ray as client

__all__ = ["driver_pid", "hear", "is_client"]

Hear = Callable[[Any], None]


def is_client() -> bool:
    """Whether this process is connected through Ray Client."""
    connected: Callable[[], bool] = client.is_connected
    return connected()


def hear(reference: Any, heard: Hear) -> None:
    """Have `heard` told a call's value or error, once, on a thread of ours: it may make calls, and must not block.

    Returns at once. The reference is held until it is registered; until the answer is there, the caller must hold it.
    """
    registering, _ = _threads()
    registering.put((reference, heard))


def driver_pid(job_id: str) -> int:
    """The process id of a job's driver on its node; of a job through Ray Client that is Ray's process for it.

    Asks the GCS, from within the cluster. 0 if there is no such job.
    """
    from ray._private.state import jobs  # public up to Ray 1, and in no other place since

    known: Callable[[], list[dict[str, Any]]] = jobs
    return next((int(job["DriverPid"]) for job in known() if job["JobID"] == job_id), 0)


@functools.cache
def _threads() -> tuple[SimpleQueue[tuple[Any, Hear]], SimpleQueue[tuple[Hear, Any]]]:
    """The way in of the two threads: one waits for ids, in the order of the calls, and one hands out answers."""
    registering: SimpleQueue[tuple[Any, Hear]] = SimpleQueue()
    answers: SimpleQueue[tuple[Hear, Any]] = SimpleQueue()
    for work, name in (
        (functools.partial(_register, registering, answers), "cluster-app-client-calls"),
        (functools.partial(_hand_out, answers), "cluster-app-client-answers"),
    ):
        threading.Thread(target=work, name=name, daemon=True).start()
    return registering, answers


def _register(registering: SimpleQueue[tuple[Any, Hear]], answers: SimpleQueue[tuple[Hear, Any]]) -> None:
    while True:
        reference, heard = registering.get()
        answered = functools.partial(_answered, answers, heard)
        try:
            reference._on_completed(answered)
        except BaseException as raised:  # the call was refused, or the connection has ended
            answered(raised)
        del reference, heard, answered  # or the last of them would be held until the next one comes


def _answered(answers: SimpleQueue[tuple[Hear, Any]], heard: Hear, value: Any) -> None:
    answers.put((heard, value))


def _hand_out(answers: SimpleQueue[tuple[Hear, Any]]) -> None:
    while True:
        heard, value = answers.get()
        heard(value)
        del heard, value
