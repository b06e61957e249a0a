"""One way out of a node: a thread of its own, which exports until it is told to end.

Decides who waits for it, which is nobody but those who say so, for a bounded time; and that what goes wrong is one line
a minute. What it exports, and when by itself, is decided by what is derived from it: `export` for metrics,
`span_export` for spans.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from observe.export_status import ExportStatus

__all__ = ["WayOut", "described"]

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 60.0


class WayOut(ABC):
    """Exports by one exporter.

    :param name: of the thread.
    :param clock: seconds, for the times between log lines.
    """

    def __init__(self, status: ExportStatus, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._clock = clock
        self._logged_at: float | None = None
        self._condition = threading.Condition()
        self._asked = self._done = 0
        self._ending = self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def status(self) -> ExportStatus:
        """How it goes."""
        return self._status

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def flush(self, within_s: float) -> bool:
        """Export all that is here, at once; whether that was done within the time."""
        with self._condition:
            self._asked += 1
            mine = self._asked
            self._condition.notify_all()
            return self._condition.wait_for(lambda: self._done >= mine or self._over, within_s)

    def begin_to_close(self) -> None:
        """Export for the last time and end; `close` waits for that."""
        with self._condition:
            self._ending = True
            self._condition.notify_all()

    def close(self, within_s: float) -> bool:
        """Export for the last time and end; whether it has in that time. What is under way then is left to itself."""
        self.begin_to_close()
        if self._thread.is_alive():
            self._thread.join(within_s)
        return not self._thread.is_alive()

    # -- on the thread

    @abstractmethod
    def _export_until_told(self) -> None:
        """All that the thread does. Raises nothing that is to be survived."""

    def _run(self) -> None:
        try:
            self._export_until_told()
        finally:
            with self._condition:
                self._over = True
                self._left()
                self._condition.notify_all()

    def _left(self) -> None:  # noqa: B027  what keeps nothing has nothing to do then
        """It has ended, and nothing that still comes will leave. Called once, with the lock held."""

    def _has_done(self, asked: int) -> None:
        """What was asked for up to that number has been exported, or could not be."""
        with self._condition:
            self._done = asked
            self._condition.notify_all()

    def _warn(self, text: str, *about: object) -> None:
        """Log it, unless something was within the last minute."""
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL_S:
            self._logged_at = now
            logger.warning(text, *about)


def described(error: BaseException) -> str:
    """An error with its kind, in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
