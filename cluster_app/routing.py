"""Where the messages to each shard go, and in which order they go elsewhere.

Decides what becomes of messages that a runner refused or that were with a runner that died. A shard's messages are
held while it is not known who serves it, or what the runner that refused one has refused besides: so nothing
overtakes. What was with a runner that stands still is given up when the coordinator has taken everything from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster_app.directory import Directory
from cluster_app.grants import Epoch
from cluster_app.known_routes import KnownRoutes
from cluster_app.lanes import Lanes
from cluster_app.redelivery import Redelivery
from cluster_app.routes import Loss, Routes
from cluster_app.sending import Messages, SendingLane, ShardSlot
from cluster_app.settling import about, end
from cluster_app.shard import ShardId
from cluster_app.timetable import EARLY_S, Timetable
from entities.errors import Cancelled, MailboxFull, RunnerUnavailable
from entities.response import EntityResponse, Settlement

__all__ = ["Routing", "full", "lane_full"]

# A runner that refuses a shard under a grant that it knows does not serve it under that one any more: what helps is a
# new grant, which is tried at once.
_FIRST_BACKOFF_S = 0.1
_MOST_BACKOFF_S = 2.0
_CALM_S = 5.0  # so long after the last refusal of a shard the next one is a first one again


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


def _end_cancelled(
    message: EntityResponse[Any], settlement: Settlement, now: float, *, may_have_run: bool
) -> None:
    """Its sender wants it no more, and nobody will answer it: it is not sent again."""
    error = Cancelled("no answer will come", may_have_run=may_have_run, **about(message))
    end(settlement, message, None, error, now)


def _in_place(message: EntityResponse[Any], lane: SendingLane) -> bool:
    """Whether nothing sent after it has gone on elsewhere: a runner that gave its shard back was still running it. Run
    again, it would undo what those behind it have done."""
    slot = message.route.slot
    return slot.lane is lane or slot.refusing_lane is lane


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
        self._lanes = lanes
        self._timetable = timetable
        self._most = max_in_flight
        self._known = KnownRoutes(directory, timetable, told)
        self._redelivery = Redelivery(incarnation, timetable)
        self._slots: dict[ShardId, ShardSlot] = {}
        self._stranded: dict[ShardId, ShardSlot] = {}  # those whose messages are held
        self._watching = False

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
        owner = self._known.owner(slot.shard)
        return self._lanes.existing(owner[0]) if owner is not None else None

    def place(self, slot: ShardSlot) -> SendingLane | None:
        """The lane of a shard that nothing is known against: its first message need not be held, and so counts at once
        towards what the lane takes."""
        owner = self._known.owner(slot.shard)
        if (
            owner is None
            or owner[0] in self._known.gone
            or slot.shard in self._stranded
            or slot.refused_by is not None
        ):
            return None
        slot.lane = self._lanes.to(owner[0])
        self._placed(slot, slot.lane, owner[1])
        return slot.lane

    @staticmethod
    def _placed(slot: ShardSlot, lane: SendingLane, epoch: tuple[int, int]) -> None:
        slot.epoch = epoch
        if lane.outbound.granted < epoch:
            lane.outbound.granted = (epoch[0], epoch[1])  # it travels with every frame, so as a plain tuple

    def hold(self, slot: ShardSlot, message: EntityResponse[Any]) -> None:
        """Let a message wait until somebody serves its shard."""
        slot.held.append(message)
        self._stranded[slot.shard] = slot
        if message.deadline is None:
            self._timetable.wake_at(self._timetable.end_of(message))

    # -- refusals and lost runners

    def refused(
        self,
        lane: SendingLane,
        message: EntityResponse[Any],
        sequence: int,
        settlement: Settlement,
        taken: bool = False,
    ) -> None:
        """A runner sent this message back: its shard is not served there (any more, if it had taken it)."""
        if message._settled:
            return
        slot = message.route.slot
        if slot.lane is lane:
            self._close(slot, lane)
            self._stranded[slot.shard] = slot
        if sequence in lane.cancelled:
            _end_cancelled(message, settlement, self._timetable.now(), may_have_run=False)
            return
        self._redelivery.came_back(message)
        if taken:
            self._redelivery.taken(message, lane, sequence)
        self._timetable.part(message)
        if slot.refusing_lane is lane:
            slot.refused.append((sequence, message))
            self._stranded[slot.shard] = slot
        else:
            # A late one: its shard's messages go elsewhere already. All that waits is younger.
            self._redelivery.mark(message, lane, sequence, "EntityNotAssignedToRunner")
            self._first(slot, [message])

    def _close(self, slot: ShardSlot, lane: SendingLane) -> None:
        """Nothing more goes by this lane: hold what is queued there and not in a frame yet."""
        slot.lane = None
        slot.refusing_lane = lane
        slot.mark = lane.outbound.next_frame
        slot.refused_by = (lane.outbound.runner_id, slot.epoch)
        now = self._timetable.now()
        before = slot.backoff_s if now - slot.retry_at < _CALM_S else 0.0
        slot.backoff_s = self._timetable.back_off(before, _FIRST_BACKOFF_S, _MOST_BACKOFF_S)
        slot.retry_at = now + slot.backoff_s
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
        self._known.gone.add(lane.outbound.runner_id)
        for slot in self:
            if slot.lane is lane:
                self._close(slot, lane)
                self._stranded[slot.shard] = slot
        if not (lane.local or lane.calls or lane.unsettled or lane.load):
            self._lanes.leave(lane)

    def lose(
        self,
        lane: SendingLane,
        settlement: Settlement,
        why: str,
        *,
        alive: bool = False,
        keeps_state: bool = False,
        idle_since: float = float("inf"),
    ) -> None:
        """The runner has ended, or nothing will come by this lane any more: what was in flight may have run.

        :param keeps_state: its entities live on. What may have run is not run again: those behind it may have, too, and
            it would undo what they did.
        :param idle_since: what was sent from then on cannot have run.
        """
        outbound = lane.outbound
        runner_id = outbound.runner_id
        if alive:
            self._lanes.leave(lane)  # should it hear that, it drops what it has of the lane
        else:
            self._lanes.remove(lane)
            self._known.gone.add(runner_id)
        now = self._timetable.now()
        again: dict[ShardId, list[tuple[float, EntityResponse[Any]]]] = {}
        for sequence, message in outbound.in_flight.items():
            if message._settled:
                continue
            if sequence in lane.cancelled:
                _end_cancelled(message, settlement, now, may_have_run=message.sent_at <= idle_since)
            elif message.sent_at > idle_since or (
                message.route.kind.idempotent and not keeps_state and _in_place(message, lane)
            ):
                self._redelivery.came_back(message)
                may_have_run = message.sent_at <= idle_since
                self._redelivery.mark(message, lane, sequence, "RunnerUnavailable", may_have_run=may_have_run)
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
                self._redelivery.mark_refused(slot, lane)
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
            self._redelivery.sent(slot)
        else:
            slot.held.extendleft(reversed(messages))
            self._stranded[slot.shard] = slot

    # -- finding lanes

    def resolve(self, settlement: Settlement) -> None:
        """Find lanes for the shards whose messages are held; ask who serves the rest."""
        if not self._stranded and not self._watching:
            return
        now = self._timetable.now() + EARLY_S
        ask = self._watching
        for slot in self.stranded:
            if not self._refusals_known(slot):
                continue
            owner = self._known.owner(slot.shard)
            if owner is None or owner[0] in self._known.gone:
                ask = True
            elif now < slot.retry_at and owner == slot.refused_by:  # under a new grant it is asked at once
                self._timetable.wake_at(slot.retry_at)
                ask = True
            elif slot.repeats and (wait_s := self._redelivery.wait_s(now, self._lanes.back)):
                self._timetable.wake_at(now + wait_s)
                ask = True
            else:
                self._release(slot, owner, settlement, now)
        if ask:
            self._known.ask(now)

    def _refusals_known(self, slot: ShardSlot) -> bool:
        """Whether all of a shard's messages that come back have; then they wait before what is held."""
        lane = slot.refusing_lane
        if lane is None:
            return True
        if self._lanes.has(lane) and not lane.local and not lane.settled_before(slot.mark):
            return False
        self._redelivery.mark_refused(slot, lane)
        slot.refused.sort(key=lambda pair: pair[0])
        slot.held.extendleft(message for _, message in reversed(slot.refused))
        slot.refused.clear()
        slot.refusing_lane = None
        slot.stream += 1
        return True

    def _release(self, slot: ShardSlot, owner: tuple[str, Epoch], settlement: Settlement, now: float) -> None:
        del self._stranded[slot.shard]
        if slot.refused_by != owner:
            slot.backoff_s, slot.refused_by = 0.0, None
        self._redelivery.sent(slot)
        slot.lane = lane = self._lanes.to(owner[0])
        self._placed(slot, lane, owner[1])
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

    def watch(self, now: float) -> None:
        """Ask what has become of the runners while one is silent that should answer."""
        self._watching = self._lanes.silent(now)

    def heard(self, routes: Routes | BaseException | None, settlement: Settlement) -> None:
        """Take in an answer of the coordinator."""
        lost = self._known.heard(routes)
        if lost is None:
            return
        now = self._timetable.now()
        self._give_up(lost, settlement, now)
        self._watching = self._watching and self._lanes.silent(now + EARLY_S)

    def _give_up(self, lost: Mapping[str, Loss], settlement: Settlement, now: float) -> None:
        """What is with runners that were lost gets no answer from there, whether they live or not.

        A runner that has let a shard go in order is not among them: it answers what it ran before.
        """
        for lane in self._lanes:
            loss = lost.get(lane.outbound.runner_id)
            if loss is not None and not lane.local and lane.outbound.granted <= loss.epoch:
                why = "its lease ended and its shards were taken from it"
                self.lose(lane, settlement, why, alive=True, idle_since=now - loss.ago_s)

    def close(self) -> None:
        """Forget what waits and where it would have gone."""
        for slot in self:
            slot.held.clear()
            slot.refused.clear()
            slot.lane = slot.refusing_lane = None
        self._stranded.clear()
