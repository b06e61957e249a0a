"""A sender's end of the local lane: messages go to the runner in this very process, one by one.

Decides on which thread they are handed over, the runner's own, and takes in how they end. What the runner makes of them
is `admission`'s business; what `LocalLane` is to the runner, this is to the sender.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cluster_app.local import LocalRunner
from cluster_app.routing import Routing
from cluster_app.sending import SendingLane
from cluster_app.settling import end
from cluster_app.timetable import Timetable
from entities.response import EntityResponse, Settlement

__all__ = ["LocalSending"]


class LocalSending:
    """What one sender has with its own runner.

    :ivar handing_over: a message is just being handed over, under the sender's lock: an entity's `__init__` may run.
    :param lock: the sender's.
    :param carry_on: has the sender send what waits, with the lock.
    :param pump: has it carry on what is in its inbox, without.
    """

    def __init__(
        self,
        local: LocalRunner,
        lock: threading.Lock,
        timetable: Timetable,
        routing: Routing,
        carry_on: Callable[[], None],
        pump: Callable[[], None],
    ) -> None:
        self._local = local
        self._lock = lock
        self._timetable = timetable
        self._now = timetable.now
        self._routing = routing
        self._carry_on = carry_on
        self._pump = pump
        self.handing_over = False

    def send(self, lane: SendingLane, settlement: Settlement) -> None:
        """Hand over what waits on the lane, or have that done where it may be. The caller holds the lock."""
        local = self._local
        if not local.here():
            local.call_soon(self._carry_on)
            return
        outbound = lane.outbound
        queue = outbound.queue
        while queue:
            message = queue.popleft()
            if message._settled:
                continue
            sequence = outbound.number_one(message)
            if message.deadline is None:
                lane.next_due = min(lane.next_due, self._timetable.end_of(message))
                self._timetable.wake_at(lane.next_due)
            self.handing_over = True
            try:
                shard = local.take(lane, message, sequence)
            finally:
                self.handing_over = False
            if shard is not None:
                outbound.in_flight.pop(sequence, None)
                self._routing.refused(lane, message, sequence, settlement)

    @property
    def runner_id(self) -> str:
        """The runner's."""
        return self._local.runner_id

    def let_in(self, message: EntityResponse[Any]) -> bool:
        """Whether a message that would be held for its shard is to go to this runner all the same.

        It would wait for the shard, the shard for the handler that sends it, and that for its answer. Only what is held
        for the same entity it does not overtake.
        """
        slot, cause, local = message.route.slot, message.cause, self._local
        if cause is None or not local.here() or not local.owes(slot.shard, cause):
            return False
        whom = message.route.kind.names[0], message.route.entity_id
        waiting = (*slot.held, *[refused for _, refused in slot.refused])
        return all((other.route.kind.names[0], other.route.entity_id) != whom for other in waiting)

    def settle(self, lane: SendingLane, sequence: int, value: Any, error: BaseException | None) -> None:
        """A message that the runner took has ended."""
        settlement = Settlement()
        with self._lock:
            message: EntityResponse[Any] | None = lane.outbound.in_flight.pop(sequence, None)
            if message is not None:
                end(settlement, message, value, error, self._now())
        settlement.wake()
        self._pump()

    def take_back(self, lane: SendingLane, sequence: int) -> None:
        """A message that the runner took and did not start: its shard moves, and so does it."""
        settlement = Settlement()
        with self._lock:
            message = lane.outbound.in_flight.pop(sequence, None)
            if message is not None:
                self._routing.refused(lane, message, sequence, settlement, taken=True)
        settlement.wake()
