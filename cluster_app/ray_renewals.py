"""A runner's renewals of its lease, from a thread of their own: handlers that hold up the event loop do not end it.

Decides when the coordinator is asked. One that has not answered when it should have is asked again beside that: a call
on its way to a coordinator that was killed just then is lost, and Ray says so up to two seconds later; one made a
moment after waits for the next coordinator and no longer.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ray.exceptions import RayTaskError

from cluster_app.coordinator import RunnerEnded
from cluster_app.grants import Lease, Renewal
from cluster_app.ray_calls import COORDINATOR, boottime, find_actor

__all__ = ["Renewals"]

# After so long without progress of the event loop its runner is given up: a handler blocks for good.
_STALL_S = 30.0
_LATE_S = 0.25  # what an answer may take beyond the time for which the coordinator holds it
_AT_ONCE = 4  # questions under way to coordinators that do not answer
_PAUSE_S = 0.05


class Renewals:
    """The renewals of one runner.

    :param renewal: what to send.
    :param apply: hears each answer on this thread, with the clock when it was asked for, and an event for whoever has
        applied it on the event loop.
    """

    def __init__(
        self,
        namespace: str,
        lease_s: float,
        renewal: Callable[[], Renewal],
        apply: Callable[[Lease, float, threading.Event], object],
    ) -> None:
        self._namespace = namespace
        self._hold_s = lease_s / 4  # for so long does the coordinator hold a question, without news
        self._renewal = renewal
        self._apply = apply
        self._asked: dict[Future[Lease], float] = {}  # when, in the order of asking
        self._coordinator: Any = None
        self._ended = threading.Event()

    def begin(self) -> None:
        """Ask until `end`."""
        threading.Thread(target=self._run, name="cluster-app-renewals", daemon=True).start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        applied = threading.Event()
        applied.set()
        stalled_since = boottime()
        late = False
        while not self._ended.is_set():
            if applied.is_set():
                stalled_since = boottime()
            elif boottime() - stalled_since > _STALL_S:
                self._ended.wait(0.1)
                continue
            # One under way is enough, unless it is late.
            if (late or not self._asked) and not self._ask():
                self._ended.wait(_PAUSE_S)
                continue
            told = self._answered()
            late = told is None
            if told is not None:
                applied = threading.Event()
                self._apply(*told, applied)
                applied.wait(self._hold_s)

    def _ask(self) -> bool:
        """Ask once more; whether there is anybody to ask."""
        try:
            self._coordinator = self._coordinator or find_actor(COORDINATOR, self._namespace)
            if self._coordinator is None:
                return False
            sent_at = boottime()
            self._asked[self._coordinator.renew.remote(self._renewal()).future()] = sent_at
        except Exception:
            self._coordinator = None
            return False
        if len(self._asked) > _AT_ONCE:
            del self._asked[next(iter(self._asked))]
        return True

    def _answered(self) -> tuple[Lease, float] | None:
        """The next answer, and when it was asked for; None if it is late, or failed."""
        done, _ = concurrent.futures.wait(
            self._asked, self._hold_s + _LATE_S, concurrent.futures.FIRST_COMPLETED
        )
        told = None
        for future in [future for future in self._asked if future in done]:
            sent_at = self._asked.pop(future)
            error = future.exception()
            if error is None:
                told = future.result(), sent_at
            elif isinstance(error, RayTaskError) and isinstance(error.cause, RunnerEnded):
                os._exit(1)  # proven dead, so others may serve its shards: nothing may leave here any more
        if told is None:
            self._coordinator = None  # it is away, or stands still, and has a successor perhaps
            if done:
                self._ended.wait(_PAUSE_S)
            return None
        # What was asked before that tells nothing new; else there would be two questions under way for good.
        self._asked = {future: at for future, at in self._asked.items() if at > told[1]}
        return told
