"""A sender's lanes: which exchanges are under way on each, and when the next one leaves.

Decides when a batch leaves. Two exchanges may be under way: one that the runner works on while the next is made. While
there is room for one, a batch leaves when nothing else is under way, when it holds two thirds of what was outstanding
at the last answer, or when its sender waits for a reply, so that nothing more will join. So a message leaves at once
when little is going on, batches grow with load by themselves, and sender and runner work at the same time. An exchange
costs as much as some hundred messages.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster_app.exchange import Answer, Parcel, Request, Transport
from cluster_app.local import LocalRunner
from cluster_app.outbound_lane import OutboundLane
from cluster_app.sending import SendingLane
from cluster_app.timetable import Timetable
from entities.response import EntityResponse

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["Lanes"]

_WINDOW = 2  # exchanges under way on a lane: one being handled while the next is made
_FULL = (
    4096  # messages: with no room for an exchange they are only looked at, for deadlines and the lane's bound
)
_POLL_S = 10.0  # how long a runner may hold an exchange that only waits for answers
_KEEP_ALIVE_S = 5.0
_RESUME_S = 0.05  # at first; then less and less often
_MOST_RESUME_S = 1.0
_SILENT_S = (
    0.5  # without an answer that is due, before a sender asks the coordinator what has become of the runner
)
_LULL_S = (
    0.002  # seconds without an exchange after which a sender is no longer taken to send as much as before
)

Told = Callable[[SendingLane, Request, Answer | BaseException], None]


class Lanes:
    """The lanes of one sender, by runner.

    :param local: the runner in this very process, if there is one.
    :param told: hears the answer to each exchange, once, on any thread.
    :ivar sizes: the messages in each batch since somebody last looked.
    """

    def __init__(
        self,
        incarnation: str,
        config: ClusterConfig,
        transport: Transport,
        timetable: Timetable,
        local: LocalRunner | None,
        told: Told,
    ) -> None:
        self.term = 0
        self.sizes: list[float] = []
        self._incarnation = incarnation
        self._config = config
        self._transport = transport
        self._timetable = timetable
        self._local = local
        self._told = told
        self._lanes: dict[str, SendingLane] = {}
        self._numbers = itertools.count()
        self._numbered_before = 0  # on lanes that are no more
        # Often enough that a sender who lives is never taken for gone.
        self._poll_s = min(_POLL_S, config.lane_silence_s / 3)
        self._keep_alive_s = min(_KEEP_ALIVE_S, config.lane_silence_s / 3)

    def __iter__(self) -> Iterator[SendingLane]:
        return iter(list(self._lanes.values()))

    def to(self, runner_id: str) -> SendingLane:
        """The lane to a runner, made at the first call."""
        lane = self._lanes.get(runner_id)
        if lane is None:
            outbound = OutboundLane(
                self._incarnation,
                next(self._numbers),
                runner_id,
                max_messages=self._config.batch_messages,
                max_bytes=self._config.batch_bytes,
            )
            local = self._local is not None and self._local.runner_id == runner_id
            connection = None if local else self._transport.connect(runner_id)
            lane = self._lanes[runner_id] = SendingLane(outbound, connection, local)
            lane.quiet_since = self._timetable.now()
            self._timetable.wake_at(self._timetable.now() + self._keep_alive_s)
        return lane

    def existing(self, runner_id: str) -> SendingLane | None:
        """The lane to a runner, if there is one."""
        return self._lanes.get(runner_id)

    def has(self, lane: SendingLane) -> bool:
        """Whether it still is the lane to its runner: neither lost nor closed."""
        return self._lanes.get(lane.outbound.runner_id) is lane

    def of(self, message: EntityResponse[Any]) -> SendingLane | None:
        """The lane that a message is in flight on: not always where its shard's messages go by now."""
        for lane in self._lanes.values():
            if message.flight is not None and lane.outbound.in_flight.get(message.flight) is message:
                return lane
        return None

    def remove(self, lane: SendingLane) -> None:
        """Its runner has ended, or has forgotten it."""
        self._numbered_before += lane.outbound.numbered
        del self._lanes[lane.outbound.runner_id]

    @property
    def back(self) -> int:
        """How many messages have left and are in flight no more, ever; those that were sent again each time."""
        outbounds = [lane.outbound for lane in self._lanes.values()]
        return self._numbered_before + sum(out.numbered - len(out.in_flight) for out in outbounds)

    def silent(self, now: float) -> bool:
        """Whether some runner should have been heard of by now, and was not."""
        return any(self._is_silent(lane, now) for lane in self._lanes.values())

    @staticmethod
    def _is_silent(lane: SendingLane, now: float) -> bool:
        if lane.local:
            return False
        waits = lane.load or lane.calls or lane.resume_at is not None
        due = lane.quiet_since if waits else lane.poll_until if lane.polling else now
        return now - due >= _SILENT_S

    # -- exchanges

    def send(self, lane: SendingLane, *, hurry: bool) -> None:
        """Let batches leave while the lane has room for them.

        :param hurry: small ones too: nothing more will join them.
        """
        outbound, timetable = lane.outbound, self._timetable
        now = timetable.now()
        while lane.calls < _WINDOW and lane.resume_at is None and outbound.queue:
            if not hurry and len(outbound.queue) < self._company(lane):
                break
            made = outbound.frame(now, timetable.default_timeout_s, self.term)
            if made is None:
                continue  # all of those have ended already; the queue is shorter now
            parcel, count = made
            self.sizes.append(count)
            if lane.next_due == float("inf"):
                lane.next_due = now + timetable.default_timeout_s
                timetable.wake_at(lane.next_due)
            if not lane.calls:
                lane.quiet_since = now  # an answer is due from now on
            lane.calls += 1
            lane.unsettled[parcel.number] = -1
            self.exchange(lane, parcel)
        self._be_patient(lane)

    def see_to_the_oldest(self, lane: SendingLane) -> None:
        """What cannot leave is over at its deadline too, though no frame of it was made that one would look at."""
        if lane.next_due < float("inf"):
            return
        oldest = lane.outbound.queue[0]
        lane.next_due = self._timetable.end_of(oldest)
        if oldest.deadline is not None:
            # That one ends by its own; for those behind it a look now and then will do.
            lane.next_due = max(lane.next_due, self._timetable.now() + _SILENT_S)
        self._timetable.wake_at(lane.next_due)

    def _company(self, lane: SendingLane) -> int:
        """How many messages make a batch that waits for nothing."""
        return max(1, min(lane.usual * 2 // 3, self._config.batch_messages))

    def _be_patient(self, lane: SendingLane) -> None:
        if lane.calls >= _WINDOW or lane.resume_at is not None:
            lane.patience = _FULL
        else:
            lane.patience = self._company(lane) - 1

    def exchange(
        self, lane: SendingLane, parcel: Parcel | None, *, resume: bool = False, wait_s: float = 0.0
    ) -> None:
        """Begin one exchange; cancellations that wait ride along."""
        cancel, lane.cancels = tuple(lane.cancels), []
        lane.spoke_at = now = self._timetable.now()
        self._timetable.wake_at(now + _SILENT_S)
        request = Request(
            self._incarnation,
            lane.outbound.number,
            parcel,
            lane.outbound.acknowledged,
            resume,
            wait_s,
            cancel,
        )
        assert lane.connection is not None
        lane.connection.exchange(request, partial(self._told, lane, request))

    def ended(self, lane: SendingLane, request: Request, waiting: int) -> None:
        """An exchange has come back, whatever it brought.

        :param waiting: how many messages are on no lane yet.
        """
        if request.parcel is not None:
            lane.calls -= 1
            lane.usual = 0 if self._transport.eager else lane.load + waiting
            if not lane.calls and lane.usual > 1:
                self._timetable.wake_at(self._timetable.now() + _LULL_S)
        elif request.wait_s:
            lane.polling = False
        self._be_patient(lane)

    def failed(self, lane: SendingLane, request: Request) -> None:
        """An exchange failed and the runner may live: the same incarnation is asked again, soon."""
        lane.cancels.extend(request.cancel)
        if lane.resume_at is None:
            lane.resume_wait_s = self._timetable.back_off(lane.resume_wait_s, _RESUME_S, _MOST_RESUME_S)
            lane.resume_at = self._timetable.now() + lane.resume_wait_s
            lane.patience = _FULL
            self._timetable.wake_at(lane.resume_at)

    def poll(self, lane: SendingLane) -> None:
        """Have somebody at the runner who brings late answers, and who notices its end when nothing else would."""
        if lane.local or lane.polling or lane.calls or lane.resume_at is not None or not self.has(lane):
            return
        lane.polling = True
        lane.poll_until = self._timetable.now() + self._poll_s
        self.exchange(lane, None, wait_s=self._poll_s)

    def tend(self, lane: SendingLane, now: float) -> None:
        """Ask again what failed, tell what was cancelled, and be heard of now and then."""
        if lane.cancelled:
            lane.cancelled = {number for number in lane.cancelled if number in lane.outbound.in_flight}
        if lane.local:
            return
        if not lane.calls and lane.usual:  # a lull: what comes next need not wait for company
            lane.usual = 0
            self._be_patient(lane)
        if lane.resume_at is not None:
            self._resume(lane, now)
        elif lane.cancels:
            self.exchange(lane, None)
        if now - lane.spoke_at >= self._keep_alive_s and not lane.polling and not lane.calls:
            self.exchange(lane, None)
        self._timetable.wake_at(
            now + (min(_SILENT_S, self._keep_alive_s) if lane.load else self._keep_alive_s)
        )

    def _resume(self, lane: SendingLane, now: float) -> None:
        assert lane.resume_at is not None
        if now < lane.resume_at:
            self._timetable.wake_at(lane.resume_at)
        elif lane.calls:
            lane.resume_at = now + _RESUME_S  # the other exchange has not come back yet
            self._timetable.wake_at(lane.resume_at)
        else:
            lane.resume_at = None
            again = list(lane.outbound.unreceived)
            for parcel in again:
                lane.calls += 1
                self.exchange(lane, parcel, resume=True)
            self._be_patient(lane)
            if not again:
                self.exchange(lane, None, resume=True)

    def leave(self, lane: SendingLane) -> None:
        """Tell a runner that nothing more will come by its lane."""
        self.remove(lane)
        if lane.connection is not None:
            outbound = lane.outbound
            goodbye = Request(self._incarnation, outbound.number, None, outbound.acknowledged, close=True)
            lane.connection.exchange(goodbye, lambda _: None)

    def close(self) -> None:
        """Leave them all."""
        for lane in self:
            self.leave(lane)
