"""One way out of a node: a thread that hands its account to one exporter of the SDK, again and again.

Decides when, and what a failure means: nothing is lost, for what has not been acknowledged is told the next time.
Nobody waits for it but whoever says so, for a bounded time. Does not decide what there is to tell (the node agent) or
where to (the exporter, by the standard variables).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from observe.export_status import ExportStatus
from observe.otlp import Temporality, metrics_data
from observe.reading import Reading
from observe.way_out import WayOut, described

__all__ = ["Account", "Exporting"]

logger = logging.getLogger(__name__)


class Account(Protocol):
    """Whose counts leave: the node agent."""

    def reading(self, exporter: str) -> Reading:
        """What there is to tell by that exporter."""
        ...

    def acknowledged(self, exporter: str, reading: Reading) -> None:
        """That has arrived."""
        ...


class Exporting(WayOut):
    """Exports one account by one exporter, from a thread of its own.

    :param make: loads and makes the exporter, on that thread: it may take long, and may raise.
    :param reason: what the exporter has logged of its last failure, if anything.
    :param clock: seconds, for the times between log lines.
    """

    def __init__(
        self,
        account: Account,
        name: str,
        make: Callable[[], MetricExporter],
        resource: Resource,
        version: str,
        *,
        interval_s: float,
        timeout_s: float = 30.0,
        endpoint: str = "",
        reason: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._make = make
        self._resource = resource
        self._version = version
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._reason = reason
        super().__init__(ExportStatus(name, endpoint), f"cluster-app-export-{name}", clock)
        self._exporter: MetricExporter | None = None
        self._temporality = Temporality()
        self._told_gauges: Reading | None = None
        self._abandoned = False

    def flush(self, within_s: float) -> bool:
        """Export once more, at once. Whether that was acknowledged within the time."""
        before = self._status.exports
        return super().flush(within_s) and self._status.exports > before

    def close(self, within_s: float) -> bool:
        """See `WayOut`; an export that is under way then does not count, whatever becomes of it."""
        ended = super().close(within_s)
        if not ended:
            self._abandoned = True
            if self._exporter is not None:
                self._exporter.shutdown()  # it wakes from between two tries
        return ended

    def open_exporter(self) -> bool:
        """Make the exporter; False, and a log line, if that cannot be."""
        try:
            self._exporter = self._make()
        except Exception as error:
            self._status = replace(self._status, error=f"cannot be used: {described(error)}")
            logger.error("metrics do not leave by %s: %s", self._status.exporter, self._status.error)
            return False
        preferred: Any = getattr(self._exporter, "_preferred_temporality", None)
        self._temporality = Temporality.preferred(preferred)
        return True

    def export(self) -> bool:
        """Export once, here and now. Whether nothing is left to be told."""
        name = self._status.exporter
        reading = self._account.reading(name)
        try:
            data = metrics_data(
                self._with_gone_gauges(reading), self._temporality, self._resource, self._version
            )
        except ValueError as error:
            # The journal was lost and the processes that counted with it: there is no true difference.
            logger.error("%s: counts have gone back (%s); they are told from here on", name, error)
            self._account.acknowledged(name, reading)
            self._status = replace(self._status, dropped=self._status.dropped + 1)
            return False
        if not data.resource_metrics[0].scope_metrics:
            return True  # and whether anything would arrive is not known
        failure = self._send(data)
        if self._abandoned:
            return False
        if failure is not None:
            self._failed(failure)
            return False
        self._account.acknowledged(name, reading)
        self._told_gauges = reading
        self._succeeded(reading.at_unix_s)
        return True

    def _export_until_told(self) -> None:
        if self.open_exporter():
            self._go_on()
            if not self._abandoned and self._exporter is not None:
                self._exporter.shutdown()

    def _go_on(self) -> None:
        # What the exporter itself calls is no business of a tracer.
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            ending = False
            while not ending and not self._abandoned:
                with self._condition:
                    self._condition.wait_for(
                        lambda: self._ending or self._asked > self._done, self._interval_s
                    )
                    ending, asked = self._ending, self._asked
                try:
                    self.export()
                except Exception as error:
                    self._failed(described(error))
                self._has_done(asked)
        finally:
            detach(token)

    def _send(self, data: MetricsData) -> str | None:
        """Why it was not acknowledged; None when it was."""
        if self._exporter is None:
            return "it has no exporter"
        try:
            result = self._exporter.export(data, timeout_millis=self._timeout_s * 1000)
        except Exception as error:
            return described(error)
        reason = self._reason()
        if result is MetricExportResult.SUCCESS:
            return None
        return reason or self._status.error or "the exporter gave no reason"

    def _with_gone_gauges(self, reading: Reading) -> Reading:
        """Gauges that were told and are no more are told once again, as nought: nobody's share of it is left."""
        before = self._told_gauges
        if before is None or before.gauges.keys() <= reading.gauges.keys():
            return reading
        gone = {key: 0.0 for key in before.gauges if key not in reading.gauges}
        return replace(reading, gauges=type(reading.gauges)({**reading.gauges, **gone}))

    def _failed(self, why: str) -> None:
        status = self._status = replace(self._status, failures=self._status.failures + 1, error=why)
        self._warn(
            "telemetry of this node does not leave by %s to %s: %s (failed exports in a row: %d); counting goes on, "
            "and the next export that succeeds tells all of it",
            status.exporter,
            status.endpoint or "there",
            why,
            status.failures,
        )

    def _succeeded(self, at_unix_s: float) -> None:
        before = self._status
        self._status = replace(
            before, exports=before.exports + 1, failures=0, error="", last_success_unix_s=at_unix_s
        )
        if before.failures:
            logger.info("telemetry of this node leaves again by %s", before.exporter)
