"""Messages that are sent again: how each is marked and counted, and when it may be.

Decides under which id a message goes on and what its sender is told of that; the budget of repeats decides when. Which
messages are sent again, and in which order, is `routing`'s business.
"""

from __future__ import annotations

from typing import Any

from cluster_app.redelivery_budget import RedeliveryBudget
from cluster_app.sending import SendingLane, ShardSlot
from cluster_app.timetable import Timetable
from entities.response import EntityResponse, Resent

__all__ = ["Redelivery"]


class Redelivery:
    """What one sender sends again."""

    def __init__(self, incarnation: str, timetable: Timetable) -> None:
        self._incarnation = incarnation
        self._timetable = timetable
        self._returned = 0  # messages that came back without an end, ever
        self._budget = RedeliveryBudget(timetable.now())

    def came_back(self, message: EntityResponse[Any]) -> None:
        """A message that was on a lane is on none any more, and has not ended."""
        message.flight = None
        self._returned += 1

    def taken(self, message: EntityResponse[Any], lane: SendingLane, sequence: int) -> None:
        """A runner had counted it as received. That it is sent again is counted when all that comes back has."""
        resent = message.resent_as or Resent(self._id(lane, sequence))
        message.resent_as = resent._replace(counted=True)

    def mark(
        self,
        message: EntityResponse[Any],
        lane: SendingLane,
        sequence: int,
        reason: str,
        *,
        may_have_run: bool = False,
    ) -> None:
        """It is sent again, under the id that it had as this message of this lane, unless it has an older one."""
        message.route.kind.resent(reason)
        resent = message.resent_as or Resent(self._id(lane, sequence))
        message.resent_as = resent._replace(
            times=resent.times + 1, may_have_run=resent.may_have_run or may_have_run
        )
        if resent.times:
            message.route.slot.repeats += 1
        self._timetable.part(message)

    def mark_refused(self, slot: ShardSlot, lane: SendingLane) -> None:
        """All that a runner refused of a shard is sent again."""
        for sequence, message in slot.refused:
            if not message._settled:
                self.mark(message, lane, sequence, "EntityNotAssignedToRunner")

    def _id(self, lane: SendingLane, sequence: int) -> str:
        return f"{self._incarnation}/{lane.outbound.number}:{sequence}"

    def wait_s(self, now: float, back: int) -> float:
        """How many seconds until something may be sent again that was before; 0: now.

        :param back: how many messages of this sender have left and are on no lane any more, ever.
        """
        return self._budget.wait_s(now, back - self._returned)

    def sent(self, slot: ShardSlot) -> None:
        """What a shard held is sent."""
        if slot.repeats:
            self._budget.spend(slot.repeats)
            slot.repeats = 0
