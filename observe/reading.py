"""What a node has to tell at one moment, and what of it has been told."""

from __future__ import annotations

from dataclasses import dataclass, field

from observe.exemplars import Exemplars
from observe.totals import Totals, subtract

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a node's account, by one exporter. Totals hold the user's own series as well.

    :ivar started_unix_s: when the node began to count.
    :ivar since_unix_s: up to when counts have been acknowledged; at first when the node began.
    :ivar at_unix_s: now.
    :ivar totals: what the node has counted.
    :ivar told: what of it has been acknowledged.
    :ivar gauges: the sum of what its living processes last reported.
    :ivar readings: the user's own gauges and up-down counters of its living processes.
    :ivar exemplars: the latest sampled messages.
    """

    started_unix_s: float
    since_unix_s: float
    at_unix_s: float
    totals: Totals
    told: Totals
    gauges: Totals
    readings: Totals
    exemplars: Exemplars = field(default_factory=Exemplars)

    def untold(self) -> Totals:
        """What has been counted and not yet acknowledged; points that did not change are left out.

        Raises ValueError when more has been told than counted: then the account has lost something.
        """
        return subtract(self.totals, self.told)
