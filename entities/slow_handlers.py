"""Handlers that hold their runner's event loop, counted exactly once each.

Decides what counts: one stretch of more than 100 ms of one handler in which the loop had no turn. Two sides see such
a stretch, and neither alone is enough:

- whoever measures its end: the crew for a handler that suspends (`stepped`), the flush for one that does not
  (`finished`, out of durations that are taken anyway). Exact, but a handler that never returns has no end;
- `StallWatch`, while it lasts (`standing`), with the stack. But a C function that keeps the interpreter to itself
  keeps the watch from looking as well.

What the watch has counted is taken off what is measured at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from observe.instruments import cluster
from observe.recorder import Recorder

if TYPE_CHECKING:
    from entities.activation import HostedMessage
    from entities.delivery import Delivery

__all__ = ["SLOW_S", "SlowHandlers"]

SLOW_S = 0.1  # seconds; an edge of the handler durations' histogram

logger = logging.getLogger("entities")


class SlowHandlers:
    """The slow handlers of one host. Each type and method is logged once, or there would be a line for each."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._standing: Delivery | None = None  # counted by the watch, and not measured yet
        self._logged: set[tuple[str, str]] = set()

    def standing(
        self, entity_type: str, method: str, delivery: Delivery | None, still: Callable[[], str | None]
    ) -> None:
        """From the watch: it has held the loop for more than 100 ms.

        :param delivery: the message it handles; None for a lifecycle hook, whose end nobody measures.
        :param still: where it stands, or None if it has gone on meanwhile: then its end is or will be measured.
        """
        # A flush needs the same lock: so the count, and that there is one, are seen together or not at all.
        with self._recorder.lock:
            stack = still()
            if stack is None:
                return
            self._count(entity_type, method)
            if delivery is not None:
                delivery.message.counted_early += 1
                self._standing = delivery
        self._log(entity_type, method, f"has held the event loop for more than {SLOW_S} s, here:\n{stack}")

    def stepped(self, delivery: Delivery, seconds: float) -> None:
        """From the crew: one step of a handler that suspends has ended, after more than 100 ms."""
        message = delivery.message
        with self._recorder.lock:
            if self._standing is delivery:
                self._standing = None
                message.counted_early -= 1
                return
            self._count(message.hosted.definition.name, message.name)
        self._log_end(message, seconds)

    def finished(self, message: HostedMessage, stalls: int, seconds: float) -> None:
        """From the flush, which holds the recorder's lock: handlers that took so long in one go have ended.

        :param seconds: how long the longest took.
        """
        self._count(message.hosted.definition.name, message.name, stalls)
        self._log_end(message, seconds)

    def _count(self, entity_type: str, method: str, stalls: int = 1) -> None:
        self._recorder.counter(cluster.slow_handlers, entity_type=entity_type, method=method).value += stalls

    def _log_end(self, message: HostedMessage, seconds: float) -> None:
        self._log(
            message.hosted.definition.name, message.name, f"has held the event loop for {seconds:.3f} s"
        )

    def _log(self, entity_type: str, method: str, what: str) -> None:
        if (entity_type, method) in self._logged:
            return
        self._logged.add((entity_type, method))
        logger.warning(
            "%s.%s %s\nEvery entity on its runner waits meanwhile: await what takes long, or declare it with "
            "@message(blocking=True). This is logged once; cluster_slow_handlers_total counts on.",
            entity_type,
            method,
            what.rstrip(),
        )
