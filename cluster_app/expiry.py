"""Messages whose time is over, and what may be said of each.

Decides which error an overdue message ends with, by where it was found. Messages with the default timeout need no
timer of their own: on a lane the order of sequence numbers is the order of age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from cluster_app.lanes import Lanes
from cluster_app.sending import SendingLane
from cluster_app.settling import about, end
from cluster_app.timetable import Timetable
from entities.errors import ClusterError, EntityNotAssignedToRunner, RunnerNotRegistered, Timeout
from entities.response import EntityResponse, Settlement

__all__ = ["Expiry"]


class Expiry:
    """Ends what is over.

    :param unserved: why nobody serves a shard of this group.
    """

    def __init__(self, timetable: Timetable, lanes: Lanes, unserved: Callable[[str], str]) -> None:
        self._timetable = timetable
        self._unserved = unserved
        self._lanes = lanes

    def deadlines(self, settlement: Settlement, now: float) -> None:
        """Messages with a deadline of their own."""
        for message in self._timetable.deadlines.over(now):
            self._one(settlement, message, now)
        self._timetable.wake_at(self._timetable.deadlines.next())

    def lane(self, lane: SendingLane, settlement: Settlement, now: float) -> None:
        """The rest of a lane: what is in flight, then what waits."""
        if lane.next_due <= now:
            lane.next_due = min(
                self._in_flight(lane, settlement, now), self.oldest(lane.outbound.queue, settlement, now)
            )
        if lane.next_due < float("inf"):
            self._timetable.wake_at(lane.next_due)

    def oldest(self, messages: deque[EntityResponse[Any]], settlement: Settlement, now: float) -> float:
        """What waits in a queue, oldest first; returns when the next one will be over."""
        due = float("inf")
        for message in messages:
            if message._settled or message.deadline is not None:
                continue
            over_at = self._timetable.end_of(message)
            if over_at > now:
                due = over_at
                self._timetable.wake_at(due)
                break
            self._one(settlement, message, now)
        while messages and messages[0]._settled:
            messages.popleft()
        return due

    def _in_flight(self, lane: SendingLane, settlement: Settlement, now: float) -> float:
        over = []
        due = float("inf")
        for message in lane.outbound.in_flight.values():
            if message.deadline is None:
                over_at = self._timetable.end_of(message)
                if over_at > now:
                    due = over_at
                    break
                over.append(message)
        for message in over:
            self._one(settlement, message, now)
        return due

    def _one(self, settlement: Settlement, message: EntityResponse[Any], now: float) -> None:
        if message._settled:
            return
        slot = message.route.slot
        error: ClusterError
        if message.flight is not None and message.flight >= 0:
            lane = self._lanes.of(message)
            if lane is not None:
                del lane.outbound.in_flight[message.flight]
            error = Timeout(may_have_run=True, **about(message))
        elif not message.route.kind.of.registered:
            error = RunnerNotRegistered("its type was not registered before the deadline", **about(message))
        elif slot.lane is None and slot.refused_by is not None:
            error = EntityNotAssignedToRunner(
                "the deadline came first", shard=str(slot.shard), **about(message)
            )
        elif slot.lane is None:
            error = RunnerNotRegistered(self._unserved(slot.shard.group), **about(message))
        else:
            error = Timeout("it had not left", may_have_run=False, **about(message))
        end(settlement, message, None, error, now)
