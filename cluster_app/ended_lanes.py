"""The lanes that a runner has forgotten, so that nothing of theirs begins anew.

Decides which requests begin a lane, and for how long it is remembered that one has ended. A lane begins with its first
frames; of one that has ended, a copy of them may still be under way, and would run once more.
"""

from __future__ import annotations

from cluster_app.exchange import Request

__all__ = ["EndedLanes"]

# An hour of the runner's own work. Counted in sweeps, not by a clock: what lies unread while the process stands still
# for hours is read within the first of them.
_REMEMBERED_SWEEPS = 3_600


class EndedLanes:
    """The lanes that ended of late, each ``(sender, number)``: a hundred bytes for each sender that left."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, int], int] = {}
        self._sweeps = 0

    def __contains__(self, lane: tuple[str, int]) -> bool:
        return lane in self._ended

    def lets_begin(self, request: Request) -> bool:
        """Whether this request, of a lane that the runner does not know, begins it.

        A lane begins with one of its first two frames, which may overtake each other: the third leaves when one of them
        has been answered. Or with a cancellation that has overtaken both. Anything else is of a lane that was forgotten
        here, or never was.
        """
        key = (request.sender, request.lane)
        if request.close:
            self.add(key)  # its frames may come yet
        first = bool(request.cancel) if request.parcel is None else request.parcel.number < 2
        return first and not request.acknowledged and key not in self._ended

    def add(self, lane: tuple[str, int]) -> None:
        """It has ended: nothing of it begins anew."""
        self._ended.pop(lane, None)
        self._ended[lane] = self._sweeps

    def swept(self) -> None:
        """One more of the sweeps that the runner makes every second while it runs."""
        self._sweeps += 1
        while self._ended:
            oldest = next(iter(self._ended))
            if self._sweeps - self._ended[oldest] < _REMEMBERED_SWEEPS:
                return
            del self._ended[oldest]
