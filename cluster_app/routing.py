"""Where the messages to each shard go, and in which order they go elsewhere.

Decides what becomes of messages that a runner refused or that were with a runner that died. A shard's messages are
held while it is not known who serves it, or what the runner that refused one has refused besides: so nothing
overtakes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from cluster_app.coordinator import Routes
from cluster_app.directory import Directory
from cluster_app.lanes import Lanes
from cluster_app.sending import Messages, SendingLane, ShardSlot
from cluster_app.settling import about, end
from cluster_app.shard import ShardId
from cluster_app.timetable import EARLY_S, Timetable
from entities.errors import MailboxFull, RunnerUnavailable
from entities.response import EntityResponse, Settlement

__all__ = ["Routing", "full", "lane_full"]

_FIRST_BACKOFF_S = 0.01
_MOST_BACKOFF_S = 1.0
_ASK_AGAIN_S = 0.1


def full(held: Messages, most: int) -> bool:
    """Whether a queue holds as many messages as it may, those aside that have ended."""
    while held and held[0]._settled:  # cancelled, or over
        held.popleft()
    return len(held) >= most


def lane_full(message: EntityResponse[Any], most: int) -> MailboxFull:
    """How a message ends for which the lane has no room."""
    return MailboxFull(
        f"{most} messages are in flight already (max_in_flight)", scope="lane", **about(message)
    )


class Routing:
    """The shards of one sender.

    :param told: hears where the shards are, on any thread, and hands it to `heard` under the sender's lock.
    """

    def __init__(
        self,
        incarnation: str,
        lanes: Lanes,
        directory: Directory,
        timetable: Timetable,
        max_in_flight: int,
        told: Callable[[Routes | BaseException | None], None],
    ) -> None:
        self._incarnation = incarnation
        self._lanes = lanes
        self._directory = directory
        self._timetable = timetable
        self._most = max_in_flight
        self._told = told
        self._slots: dict[ShardId, ShardSlot] = {}
        self._stranded: dict[ShardId, ShardSlot] = {}  # those whose messages are held
        self._routes = Routes(-1, {})
        self._gone: set[str] = set()
        self._asking = False
        self._ask_at = 0.0

    def __iter__(self) -> Iterator[ShardSlot]:
        return iter(list(self._slots.values()))  # any thread may add one

    @property
    def stranded(self) -> list[ShardSlot]:
        """The shards whose messages are held."""
        return list(self._stranded.values())

    def slot(self, shard: ShardId) -> ShardSlot:
        """What is known of a shard."""
        slot = self._slots.get(shard)
        return slot if slot is not None else self._slots.setdefault(shard, ShardSlot(shard))

    def expected(self, slot: ShardSlot) -> SendingLane | None:
        """The lane that a shard without one will likely get."""
        owner = self._routes.owners.get(slot.shard)
        return self._lanes.existing(owner[0]) if owner is not None else None

    def place(self, slot: ShardSlot) -> SendingLane | None:
        """The lane of a shard that nothing is known against: its first message need not be held, and so counts at once
        towards what the lane takes."""
        owner = self._routes.owners.get(slot.shard)
        if (
            owner is None
            or owner[0] in self._gone
            or slot.shard in self._stranded
            or slot.refused_by is not None
        ):
            return None
        slot.lane = self._lanes.to(owner[0])
        return slot.lane

    def hold(self, slot: ShardSlot, message: EntityResponse[Any]) -> None:
        """Let a message wait until somebody serves its shard."""
        slot.held.append(message)
        self._stranded[slot.shard] = slot
        if message.deadline is None:
            self._timetable.wake_at(self._timetable.end_of(message))

    # -- refusals and lost runners

    def refused(
        self, lane: SendingLane, message: EntityResponse[Any], sequence: int, taken: bool = False
    ) -> None:
        """A runner sent this message back: its shard is not served there (any more, if it had taken it)."""
        if message._settled:
            return
        slot = message.route.slot
        if slot.lane is lane:
            self._close(slot, lane)
        message.flight = None
        if taken:
            message.resent_as = (f"{self._incarnation}/{lane.outbound.number}:{sequence}", True)
        self._timetable.part(message)
        if slot.refusing_lane is lane:
            slot.refused.append((sequence, message))
            self._stranded[slot.shard] = slot
        else:
            # A late one: its shard's messages go elsewhere already. All that waits is younger.
            self._mark_resent(message, lane, sequence, "EntityNotAssignedToRunner")
            self._first(slot, [message])

    def _close(self, slot: ShardSlot, lane: SendingLane) -> None:
        """Nothing more goes by this lane: hold what is queued there and not in a frame yet."""
        slot.lane = None
        slot.refusing_lane = lane
        slot.mark = lane.outbound.next_frame
        slot.refused_by = lane.outbound.runner_id
        slot.backoff_s = min(_MOST_BACKOFF_S, slot.backoff_s * 2 or _FIRST_BACKOFF_S)
        slot.retry_at = self._timetable.now() + slot.backoff_s
        self._timetable.wake_at(slot.retry_at)
        waiting = lane.outbound.queue
        mine = [queued for queued in waiting if queued.route.slot is slot]
        if mine:
            slot.held.extendleft(reversed(mine))
            others = [queued for queued in waiting if queued.route.slot is not slot]
            waiting.clear()
            waiting.extend(others)

    def part(self, lane: SendingLane) -> None:
        """Its runner serves nothing any more and waits to end: send nothing there, and leave once all is known."""
        self._gone.add(lane.outbound.runner_id)
        for slot in self:
            if slot.lane is lane:
                self._close(slot, lane)
                self._stranded[slot.shard] = slot
        if not (lane.local or lane.calls or lane.unsettled or lane.load):
            self._lanes.leave(lane)

    def lose(self, lane: SendingLane, settlement: Settlement, why: str, *, alive: bool = False) -> None:
        """The runner has ended, or has forgotten this lane: what was in flight may have run."""
        outbound = lane.outbound
        runner_id = outbound.runner_id
        self._lanes.remove(lane)
        if not alive:
            self._gone.add(runner_id)
        now = self._timetable.now()
        again: dict[ShardId, list[tuple[float, EntityResponse[Any]]]] = {}
        for sequence, message in outbound.in_flight.items():
            if message._settled:
                continue
            if message.route.kind.idempotent:
                message.flight = None
                self._mark_resent(message, lane, sequence, "RunnerUnavailable")
                again.setdefault(message.route.slot.shard, []).append((sequence, message))
            else:
                error = RunnerUnavailable(why, runner=runner_id, may_have_run=True, **about(message))
                end(settlement, message, None, error, now)
        for message in outbound.queue:
            again.setdefault(message.route.slot.shard, []).append((float("inf"), message))
        outbound.in_flight.clear()
        outbound.queue.clear()
        for slot in self:
            if slot.lane is lane:
                slot.lane = None
            elif slot.refusing_lane is lane:
                # What it refused and what ran there is sent again in the order in which it was sent.
                for sequence, message in slot.refused:
                    if not message._settled:
                        self._mark_resent(message, lane, sequence, "EntityNotAssignedToRunner")
                again.setdefault(slot.shard, []).extend(slot.refused)
                slot.refused.clear()
                slot.refusing_lane = None
        for shard, messages in again.items():
            messages.sort(key=lambda pair: pair[0])
            self._first(self._slots[shard], [message for _, message in messages])

    def _first(self, slot: ShardSlot, messages: list[EntityResponse[Any]]) -> None:
        """These go before all that has not left yet."""
        if slot.lane is not None:
            slot.lane.outbound.queue.extendleft(reversed(messages))
        else:
            slot.held.extendleft(reversed(messages))
            self._stranded[slot.shard] = slot

    def _mark_resent(
        self, message: EntityResponse[Any], lane: SendingLane, sequence: int, reason: str
    ) -> None:
        message.route.kind.resent(reason)
        if message.resent_as is None:
            message.resent_as = (f"{self._incarnation}/{lane.outbound.number}:{sequence}", False)
        self._timetable.part(message)

    # -- finding lanes

    def resolve(self, settlement: Settlement) -> None:
        """Find lanes for the shards whose messages are held; ask who serves the rest."""
        if not self._stranded:
            return
        now = self._timetable.now() + EARLY_S
        ask = False
        for slot in self.stranded:
            if not self._refusals_known(slot):
                continue
            owner = self._routes.owners.get(slot.shard)
            if owner is None or owner[0] in self._gone:
                ask = True
            elif owner[0] == slot.refused_by and now < slot.retry_at:
                self._timetable.wake_at(slot.retry_at)
                ask = True
            else:
                self._release(slot, owner[0], settlement, now)
        if ask and not self._asking and now >= self._ask_at:
            self._asking = True
            self._directory.routes(self._routes.version, self._told)
        elif ask and not self._asking:
            self._timetable.wake_at(self._ask_at)

    def _refusals_known(self, slot: ShardSlot) -> bool:
        """Whether all of a shard's messages that come back have; then they wait before what is held."""
        lane = slot.refusing_lane
        if lane is None:
            return True
        if self._lanes.has(lane) and not lane.local and not lane.settled_before(slot.mark):
            return False
        for sequence, message in slot.refused:
            if not message._settled:
                self._mark_resent(message, lane, sequence, "EntityNotAssignedToRunner")
        slot.refused.sort(key=lambda pair: pair[0])
        slot.held.extendleft(message for _, message in reversed(slot.refused))
        slot.refused.clear()
        slot.refusing_lane = None
        slot.stream += 1
        return True

    def _release(self, slot: ShardSlot, runner_id: str, settlement: Settlement, now: float) -> None:
        del self._stranded[slot.shard]
        if slot.refused_by != runner_id:
            slot.backoff_s, slot.refused_by = 0.0, None
        slot.lane = lane = self._lanes.to(runner_id)
        held, slot.held = slot.held, deque()
        for message in held:
            if message._settled:
                continue
            if message.resent_as is None and lane.load >= self._most:
                end(settlement, message, None, lane_full(message, self._most), now)
                continue
            self._timetable.part_if_held(message)
            lane.outbound.queue.append(message)

    # -- what the coordinator says

    def heard(self, routes: Routes | BaseException | None) -> None:
        """Take in an answer of the coordinator."""
        self._asking = False
        if isinstance(routes, Routes):
            self._routes = routes
            self._gone &= {owner for owner, _ in routes.owners.values()}
        elif isinstance(routes, BaseException):
            self._ask_at = self._timetable.now() + _ASK_AGAIN_S  # no coordinator just now; another one comes

    def close(self) -> None:
        """Forget what waits and where it would have gone."""
        for slot in self:
            slot.held.clear()
            slot.refused.clear()
            slot.lane = slot.refusing_lane = None
        self._stranded.clear()
