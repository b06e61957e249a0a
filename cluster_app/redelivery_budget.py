"""How much a sender may send again: a budget, so that runners that fail again and again cause no storm.

Decides when messages that were sent again before may be so once more; until then they are held, in order. Pure: a clock
reading and counts come in. The first time that a message is sent again costs nothing, however many are at once: its
own sending has paid for it, and one lost runner is no storm. Every further time takes one from the budget, into which
go so many a second, and one for each message that ends. So of a runner that serves again all is soon known, and one
that takes and answers nothing gets little: what a sender sends is at most twice what it was asked to send, twice what
came to an end, and the floor.

The idea is Finagle's `RetryBudget` (K. Oliver, "Retry Budgets", 2016: a share of the requests and a least number a
second, kept for 10 s) with the refill by successes of gRPC's retry throttling; "Handling Overload" in Google's SRE book
argues for budgets.
"""

from __future__ import annotations

__all__ = ["RedeliveryBudget"]

_FLOOR = 1_000  # a second: a hundredth of what a runner handles
_KEPT_S = 10.0  # what was not used earlier is no reason for a storm now
_MOST = _FLOOR * _KEPT_S


class RedeliveryBudget:
    """The budget of one sender; it can be overdrawn by the messages of one shard, which are not torn apart."""

    def __init__(self, now: float) -> None:
        self._looked_at = now
        self._ended = 0
        self._left = _MOST  # negative: overdrawn

    def wait_s(self, now: float, ended: int) -> float:
        """How many seconds until something may be sent again, if nothing ends before; 0: now.

        :param ended: how many messages of this sender have left and come to an end, ever.
        """
        gained = _FLOOR * (now - self._looked_at) + max(0, ended - self._ended)
        self._looked_at, self._ended = now, max(ended, self._ended)
        self._left = min(self._left + gained, _MOST)
        return 0.0 if self._left > 0 else (1.0 - self._left) / _FLOOR

    def spend(self, messages: int) -> None:
        """So many are sent again, not for the first time."""
        # No debt is longer than what a full budget is: else one crowded shard would keep all others waiting.
        self._left = max(self._left - messages, -_MOST)
