"""The lanes that end at a runner.

Decides which begin, and when one is forgotten: closed by its sender, whose process has ended or has fallen silent.
What comes by one is `inbound_lane`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from cluster_app.ended_lanes import EndedLanes
from cluster_app.envelope import Codec
from cluster_app.exchange import Request
from cluster_app.inbound_lane import InboundLane
from entities.delivery import Delivery

__all__ = ["InboundLanes"]

_MOST_GONE = 1000  # as many as are told at once
_FAREWELL_S = 10.0  # twice as long as a sender that lives is silent at most


class InboundLanes(dict[tuple[str, int], InboundLane]):
    """The lanes of one runner, each by ``(sender, number)``.

    :param silence_s: seconds after which a sender that has not been heard of has its lane no more.
    :param cancel: ends a message that has not started, and leaves others alone.
    """

    def __init__(self, codec: Codec, silence_s: float, cancel: Callable[[Delivery], None]) -> None:
        super().__init__()
        self._codec = codec
        self._silence_s = silence_s
        self._cancel = cancel
        self._ended = EndedLanes()
        self._gone: dict[str, None] = {}  # processes that have ended, the last ones

    def begin(self, request: Request) -> InboundLane | None:
        """The lane that this request of an unknown one begins; None if nothing of it may begin (any more)."""
        if not self._ended.lets_begin(request):
            return None
        lane = InboundLane(request.sender, request.lane, self._codec)
        self[request.sender, request.lane] = lane
        return lane

    def forget(self, key: tuple[str, int]) -> None:
        """Nothing will come by this lane any more; what came by it and has not started never will."""
        lane = self.pop(key)
        self._ended.add(key)
        if lane.listener is not None:
            lane.listener()  # nothing will come any more; a process that wants to end waits for all its calls
        for delivery in list(lane.unanswered.values()):
            self._cancel(delivery)

    def ended(self, senders: Iterable[str]) -> None:
        """These processes have ended: nothing of theirs comes any more, but for what is on its way."""
        for sender in senders:
            self._gone.pop(sender, None)
            self._gone[sender] = None
        while len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]
        self._forget_gone()

    def _forget_gone(self) -> None:
        for key in list(self):
            if key[0] in self._gone:
                self.forget(key)

    def sweep(self, now: float, *, leaving: bool) -> None:
        """Forget those whose sender has fallen silent, and what has begun although its sender had ended.

        :param leaving: the runner ends when all are gone.
        """
        self._forget_gone()
        for key, lane in list(self.items()):
            # Who lives is heard of every few seconds: a runner that ends waits for nobody who has lost nothing by it.
            patience_s = min(_FAREWELL_S if leaving and lane.settled else math.inf, self._silence_s)
            if lane.heard_at < now - patience_s and lane.listener is None:
                self.forget(key)
        self._ended.swept()

    def tell(self) -> None:
        """Answer every sender that waits for news."""
        for lane in self.values():
            if lane.listener is not None:
                lane.listener()
