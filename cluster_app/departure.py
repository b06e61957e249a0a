"""How a runner ends in order: when it may say goodbye.

Decides the moment from which a runner can get no more shards and holds none. What is let go before, and how its
process ends after, is `runner`'s and the edge's business. Pure: readings of the runner's clock come in.
"""

from __future__ import annotations

import math

from cluster_app.tenure import Tenure

__all__ = ["Departure"]


class Departure:
    """The end of one runner incarnation.

    A runner that was drained and is empty says that it leaves; once the coordinator has answered to that, no grant is
    under way to it any more, whatever becomes of the drain.

    :ivar begun: it holds no shard and never will: its senders are to part from it.
    """

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure
        self._left_at = math.inf
        self.begun = False

    def leave(self, now: float) -> bool:
        """Ask, from the next renewal on, for all shards to be moved elsewhere; False when that was asked before."""
        if self._tenure.leaving:
            return False
        self._tenure.leave()
        self._left_at = now
        return True

    def heard(self, sent_at: float, now: float) -> bool:
        """An answer to a renewal sent at `sent_at` was applied; True when there is something to tell at once.

        That is either that it leaves, to the coordinator, or that it has left, to its senders (`begun`).
        """
        if self.begun or self._tenure.grants:
            return False
        if self._tenure.leaving:
            # An answer to a renewal that did not say so yet may have crossed with a grant.
            self.begun = sent_at >= self._left_at
            return self.begun
        return self._tenure.draining and self.leave(now)
