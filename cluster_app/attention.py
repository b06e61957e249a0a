"""How long a coordinator has been able to hear its runners.

Decides whose silence it was. After a pause, or a time without leadership, it is the coordinator that was silent, not
the runners: they get a whole lease to be heard again before anything is taken from them.
"""

from __future__ import annotations

__all__ = ["Attention"]


class Attention:
    """The attention of one coordinator.

    :param gap_s: it was away if it did nothing for longer.
    :ivar last: the clock when it last did something.
    """

    def __init__(self, now: float, gap_s: float) -> None:
        self.last = self._since = now
        self._gap_s = gap_s

    def pays(self, now: float) -> None:
        """It does something."""
        if now - self.last > self._gap_s:
            self._since = now
        self.last = now

    def heard_by(self, lease_s: float) -> float:
        """When everybody who lives has been heard of since it was last away."""
        return self._since + lease_s
