"""The processes whose end is proven, as a coordinator remembers them and tells its runners.

Decides for how long each is remembered, and what a runner hears: each end once, so a renewal at rest costs nothing for
it. What is concluded from an end is decided elsewhere.
"""

from __future__ import annotations

from itertools import islice

__all__ = ["EndedProcesses"]

_MOST_TOLD = 1000  # at once: the last ones


class EndedProcesses:
    """The processes that have ended of late, runners and others that send.

    :param remembered_s: seconds for which each is remembered.
    :ivar number: how many ends there have been.
    """

    def __init__(self, remembered_s: float) -> None:
        self.number = 0
        self._remembered_s = remembered_s
        self._until: dict[str, float] = {}

    def __contains__(self, process: str) -> bool:
        return process in self._until

    def __len__(self) -> int:
        return len(self._until)

    def add(self, process: str, now: float) -> None:
        """It has ended; a word about one that is remembered says nothing new."""
        if process not in self._until:
            self.number += 1
            self._until[process] = now + self._remembered_s

    def since(self, number: int) -> frozenset[str]:
        """Those that have ended after the first so many, as far as they are remembered."""
        news = self.number - number
        return frozenset(islice(reversed(self._until), min(news, _MOST_TOLD))) if news > 0 else frozenset()

    def forget(self, now: float) -> None:
        """Forget those that are remembered for long enough."""
        while self._until:
            oldest = next(iter(self._until))
            if now < self._until[oldest]:
                return
            del self._until[oldest]
