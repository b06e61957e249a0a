"""What the SDK's exporters log of themselves: kept as the reason of a failure, instead of told each time.

Decides that a collector that is away costs a line a minute. The SDK would log each try of each export.
"""

from __future__ import annotations

import logging
import threading

__all__ = ["ExporterLog", "hear_repeats"]

_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk.metrics")


class ExporterLog(logging.Handler):
    """Takes in what exporters log, while it is attached."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: dict[int, dict[int, str]] = {}  # by thread and level
        self._propagated: dict[str, bool] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text as the last one of its thread and level."""
        self._last.setdefault(record.thread or 0, {})[record.levelno] = record.getMessage()

    def attach(self) -> None:
        """Begin; from then on nothing of it goes to any other handler."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            if self not in logger.handlers:
                self._propagated[name] = logger.propagate
                logger.addHandler(self)
                logger.propagate = False

    def detach(self) -> None:
        """End, and leave the loggers as they were."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            if self in logger.handlers:
                logger.removeHandler(self)
                logger.propagate = self._propagated[name]

    def take(self) -> str | None:
        """What was last logged in this thread, once, the worst first; None when nothing was.

        That an export was given up is an error, and why each of its tries failed a warning.
        """
        found = self._last.pop(threading.get_ident(), {})
        return "; ".join(found[level] for level in sorted(found, reverse=True)) or None


def hear_repeats() -> None:
    """Have exporters that are loaded log what they have just logged before, too.

    The gRPC one leaves it out for up to 20 seconds, whichever signal or collector it is about: then the second export
    that fails has no reason.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.startswith(f"{_LOGGERS[0]}."):
            for each in list(logger.filters):
                if type(each).__name__ == "DuplicateFilter":  # private to the SDK
                    logger.removeFilter(each)
