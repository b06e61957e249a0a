"""Whether a coordinator may lead: terms and the leadership lease.

A term is claimed by a put without overwrite, so two claimants never hold the same one. A coordinator leads
under a lease that counts from the moment it *sent* the last question to which the store answered "nobody is
above you". So once a higher term is claimed, a lower one stops leading within one leadership lease, even if
it never learns why. Decides nothing about shards.
"""

from __future__ import annotations

import math
from contextlib import suppress

from cluster_app.kv import KeyValue, KeyValueUnavailable

__all__ = ["TERM_DIGITS", "Leadership", "NotLeading"]

TERM_DIGITS = 12  # of a term in a key, so that keys are in the order of terms


class NotLeading(Exception):
    """This coordinator does not lead (any more, or for now): its answer would bind nobody.

    Ask the other one.
    """

    def __init__(self, term: int | None, highest: int | None = None) -> None:
        super().__init__(term, highest)
        self.term = term
        self.highest = highest

    def __str__(self) -> str:
        above = f"; term {self.highest} has been claimed" if self.highest is not None else ""
        return f"the coordinator of term {self.term} does not lead{above}"


class Leadership:
    """One coordinator incarnation's claim to lead. Clock values are readings of its own clock, in seconds.

    :param namespace: the cluster's name; clusters of different namespaces do not see each other's terms.
    :param lease_s: how long one confirmation lasts. A new term waits this long before it counts the old one
        as ended, so it is a fraction of the runners' lease.
    :param incarnation: who claims; written into the store for people to read.
    """

    def __init__(self, kv: KeyValue, namespace: str, lease_s: float, incarnation: str) -> None:
        if not (lease_s > 0 and math.isfinite(lease_s)):
            raise ValueError(f"a leadership lease is a positive number of seconds, not {lease_s}")
        self.lease_s = lease_s
        self.term: int | None = None
        self._kv = kv
        self._prefix = f"{namespace}/term/"
        self._incarnation = incarnation
        self._lease_end = -math.inf
        self._above: int | None = None

    @property
    def abdicated(self) -> bool:
        """Whether a higher term was seen.

        For good: a coordinator that has to lead again is a new incarnation.
        """
        return self._above is not None

    def claim(self, sent_at: float) -> int | None:
        """Claim the next term and return it; None when another claimant was faster (try again) or after
        abdication.

        :param sent_at: the clock read before this call.
        :raises KeyValueUnavailable: when the store does not answer; a later claim takes a later term.
        """
        if self.term is not None:
            raise RuntimeError(f"this incarnation has claimed term {self.term} already")
        term = self._highest() + 1
        if not self._kv.put(
            f"{self._prefix}{term:0{TERM_DIGITS}d}", self._incarnation.encode(), overwrite=False
        ):
            return None
        self.term = term
        # The number may be one that was used and tidied away while this process slept: only a list taken
        # after the put shows that the claim is the highest.
        try:
            if not self._confirmed(sent_at):
                return None
        except KeyValueUnavailable:
            self.term = None
            raise
        # Tidying is worth one try: what stays is a few bytes, and the next term tries again.
        with suppress(KeyValueUnavailable):
            for number in self._claimed():
                if number < term:
                    self._kv.delete(f"{self._prefix}{number:0{TERM_DIGITS}d}")
        return term

    def confirm(self, sent_at: float) -> bool:
        """Ask the store again; True renews the leadership lease to `sent_at` + `lease_s`.

        False means that a higher term was seen (`abdicated`) or that the store did not answer: then what is
        left of the lease still counts.

        :param sent_at: the clock read before this call.
        """
        if self.term is None or self.abdicated:
            return False
        try:
            return self._confirmed(sent_at)
        except KeyValueUnavailable:
            return False

    def leads(self, now: float) -> bool:
        """Whether this incarnation may answer at `now`."""
        return not self.abdicated and now < self._lease_end

    def require(self, now: float) -> int:
        """The term, for one that leads at `now`. Raises NotLeading for any other."""
        if self.term is None or not self.leads(now):
            raise NotLeading(self.term, self._above)
        return self.term

    def abdicate(self, seen_term: int) -> None:
        """Stop for good because a higher term was seen elsewhere, for instance in a runner's renewal."""
        if self.term is None or seen_term > self.term:
            self._above = max(seen_term, self._above or 0)

    def _confirmed(self, sent_at: float) -> bool:
        highest = self._highest()
        if self.term is None or highest > self.term:
            self.abdicate(highest)
            return False
        self._lease_end = max(self._lease_end, sent_at + self.lease_s)
        return True

    def _claimed(self) -> list[int]:
        return [int(key.removeprefix(self._prefix)) for key in self._kv.keys(self._prefix)]

    def _highest(self) -> int:
        return max(self._claimed(), default=0)
