"""How much of a sender's is under way: what waits, what is held and what is in flight.

Decides nothing: whoever asks does, whether that leaves room or whether a process may end. Counted when asked, so that
a message pays nothing for it.
"""

from __future__ import annotations

import threading
from typing import Any

from cluster_app.lanes import Lanes
from cluster_app.reference import OutgoingMessage
from cluster_app.registration import Registration
from cluster_app.routing import Routing
from cluster_app.sending import Messages
from entities.response import EntityResponse

__all__ = ["Outstanding"]


class Outstanding:
    """The messages of one sender that have no end.

    :param lock: the sender's; held while messages move from one queue to the next.
    """

    def __init__(
        self, inbox: Messages, lock: threading.Lock, types: Registration, routing: Routing, lanes: Lanes
    ) -> None:
        self._inbox = inbox
        self._lock = lock
        self._types = types
        self._routing = routing
        self._lanes = lanes

    def towards(self, message: OutgoingMessage, *, exactly: bool = False) -> int:
        """Messages on the lane to that entity, or held for its shard.

        :param exactly: not while some of them move.
        """
        if exactly:
            with self._lock:
                return self.towards(message)
        lane = message.slot.lane
        load = len(self._inbox) + len(message.kind.of.held)
        if lane is None:
            # Where it will go is not known, or not settled: whatever is held may go the same way.
            load += sum(len(slot.held) + len(slot.refused) for slot in self._routing.stranded)
            lane = self._routing.expected(message.slot)
        return load + (lane.load if lane is not None else 0)

    def by_entity(self) -> dict[tuple[str, str], int]:
        """Messages by entity, each ``(type, id)``."""
        counts: dict[tuple[str, str], int] = {}
        with self._lock:
            in_flight = [message for lane in self._lanes for message in lane.outbound.in_flight.values()]
            for message in [*self._inbox, *self.waiting(), *in_flight]:
                key = (message.route.kind.names[0], message.route.entity_id)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def waiting(self) -> list[EntityResponse[Any]]:
        """Every message that has not left, those in the inbox aside. The caller holds the lock."""
        waiting: list[EntityResponse[Any]] = []
        for known in self._types:
            waiting += known.held
        for slot in self._routing:
            waiting += slot.held
            waiting += [message for _, message in slot.refused]
        for lane in self._lanes:
            waiting += lane.outbound.queue
        return waiting
