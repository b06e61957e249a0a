"""A sender's surroundings, all in the test's hands: the clock, the coordinator, the network and the runners.

The lanes are the real ones at both ends. Nothing moves unless the test lets it: a request or an answer can be
delivered late, twice, in any order, or be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from cluster_app import Entity, message
from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.ended_lanes import EndedLanes
from cluster_app.envelope import Codec, MessageFrame, Packed, read_messages
from cluster_app.exchange import Answer, Connection, Request, RunnerGone, RunnerUnreachable, Told
from cluster_app.grants import Epoch
from cluster_app.inbound_lane import InboundLane
from cluster_app.routes import Routes
from cluster_app.shard import ShardId, shard_number, shards_of
from entities.declaration import EntityDefinition
from entities.delivery import Delivery
from entities.errors import ClusterError
from entities.response import EntityResponse
from observe.metrics import MetricsSnapshot
from observe.recorder import Recorder


class Ledger(Entity):
    """What the tests send to; it never lives, the runners here only note what they take."""

    @message
    def put(self, value: int) -> int:
        """Keep a number."""
        return value

    @message(idempotent=True)
    def look(self, value: int) -> int:
        """May be run twice."""
        return value


class Taken(NamedTuple):
    """A message that a runner let in."""

    runner: str
    entity_id: str
    value: int


@dataclass
class OnTheWay:
    """A request, or once it has been answered an answer, in the network."""

    runner: FakeRunner
    request: Request
    told: Told
    answer: Answer | None = None
    repeated: bool = False


class FakeRunner:
    """A runner whose handlers end when the test says so.

    :ivar serving: its shards.
    :ivar opened: what it has let in and not answered, oldest first.
    """

    def __init__(self, world: World, runner_id: str) -> None:
        self.world = world
        self.runner_id = runner_id
        self.alive = True
        self.serving: set[ShardId] = set()
        self.opened: list[Delivery] = []
        self.lanes: dict[tuple[str, int], InboundLane] = {}
        self.ended_lanes = EndedLanes()
        self.at_once = True

    def exchange(self, request: Request, told: Told) -> None:
        """Put the request into the network."""
        self.world.requests.append(OnTheWay(self, request, told))

    def answer(self, request: Request) -> Answer | None:
        """Take a request in as a runner does; None while the answer is held back."""
        key = (request.sender, request.lane)
        lane = self.lanes.get(key)
        if lane is None:
            if not self.ended_lanes.lets_begin(request):
                return Answer(-1, 0)
            lane = self.lanes[key] = InboundLane(request.sender, request.lane, Codec())
        lane.acknowledge(request.acknowledged)
        for sequence in request.cancel:
            cancelled = lane.unanswered.get(sequence)
            if cancelled is not None:
                self.world.cancelled.append(_number(cancelled))
        if request.close:
            del self.lanes[key]
            self.ended_lanes.add(key)
            return Answer(lane.received, lane.published)
        if request.parcel is not None:
            frame = read_messages(request.parcel.data)
            for due, attachments in lane.offer(frame, request.parcel.attachments):
                self._take(lane, due, attachments)
        elif request.wait_s and not lane.has_news and not request.resume:
            return None
        lane.publish()
        if request.parcel is None and not request.wait_s and not request.resume:
            return Answer(lane.received, lane.published)
        return Answer(lane.received, lane.published, lane.take(resume=request.resume))

    def _take(self, lane: InboundLane, frame: MessageFrame, attachments: tuple[Any, ...]) -> None:
        self.world.frames.append(len(frame.ids))
        for position, (kind, entity_id, args) in enumerate(
            zip(frame.kind, frame.ids, frame.arguments, strict=True)
        ):
            extra = frame.extras.get(position)
            if extra is not None:
                args = extra.arguments
                if extra.packed is not None:
                    args, _ = Codec().unpack(Packed(extra.packed, attachments))
            assert args is not None
            name, method = frame.kinds[kind]
            sequence, stream = frame.first + position, extra.stream if extra is not None else 0
            shard = self.world.shard_of(entity_id)
            if shard not in self.serving or not lane.admits(shard, stream):
                lane.refuse(sequence, shard, stream)
                continue
            delivery = cast(
                Delivery,
                SimpleNamespace(
                    sequence=sequence,
                    origin=lane,
                    entity_id=entity_id,
                    args=args,
                    stream=stream,
                    message=SimpleNamespace(name=method, hosted=name),
                ),
            )
            lane.unanswered[sequence] = delivery
            self.world.taken.append(Taken(self.runner_id, entity_id, args[0]))
            self.opened.append(delivery)
            if self.at_once:
                self.finish()

    def finish(self, which: int = 0, error: ClusterError | None = None) -> None:
        """End a handler: the oldest, unless told otherwise."""
        delivery = self.opened.pop(which)
        self.world.ran.append(_number(delivery))
        delivery.origin.answer(delivery, _number(delivery), error)

    def give_up(self, shard: ShardId) -> None:
        """The shard leaves: what waits for it goes back to its sender, in order."""
        self.serving.discard(shard)
        mine = [d for d in self.opened if self.world.shard_of(d.entity_id) == shard]
        for delivery in mine:
            self.opened.remove(delivery)
            self.world.taken.remove(Taken(self.runner_id, delivery.entity_id, _number(delivery)))
            cast(InboundLane, delivery.origin).send_back(delivery, shard)


def _number(delivery: Delivery) -> int:
    return cast(int, delivery.args[0])


@dataclass
class World:
    """One client and all it can reach.

    :ivar taken: what runners let in, in order; what they gave back is taken out again.
    :ivar ran: the numbers whose handlers ended.
    """

    config: ClusterConfig = field(default_factory=lambda: ClusterConfig(shards_per_group=4))
    registers: bool = True
    eager: bool = True

    def __post_init__(self) -> None:
        self.now_s = 1000.0
        self.chance = 0.5
        self.alarms: list[float] = []
        self.requests: list[OnTheWay] = []
        self.answers: list[OnTheWay] = []
        self.runners: dict[str, FakeRunner] = {}
        self.taken: list[Taken] = []
        self.ran: list[int] = []
        self.cancelled: list[int] = []
        self.frames: list[int] = []
        self.owners: dict[ShardId, tuple[str, Epoch]] = {}
        self.version = 1
        self.asked: list[tuple[int, Callable[[Routes | BaseException | None], None]]] = []
        self.registrations: list[Callable[[BaseException | None], None]] = []
        self.recorder = Recorder()
        self.client = Client(
            "sender",
            self.config,
            self,
            self,
            self.recorder,
            Codec(),
            self.clock,
            self.alarms.append,
            chance=lambda: self.chance,
        )
        self.sent = 0

    def clock(self) -> float:
        return self.now_s

    # -- the coordinator

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        self.asked.append((known_version, told))

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        self.registrations.append(told)

    def keep(self, name: str, told: Callable[[BaseException | None], None]) -> None:
        """Nothing lives here, so nothing is kept."""
        told(None)

    def tell_routes(self) -> bool:
        """Answer every question about routes whose answer would be news."""
        news = [asked for asked in self.asked if asked[0] != self.version]
        self.asked = [asked for asked in self.asked if asked[0] == self.version]
        for _, told in news:
            told(Routes(self.version, dict(self.owners)))
        return bool(news)

    def tell_registered(self, refusal: BaseException | None = None) -> bool:
        """Answer every registration."""
        told_all, self.registrations = self.registrations, []
        for told in told_all:
            told(refusal)
        return bool(told_all)

    # -- the network

    def connect(self, runner_id: str) -> Connection:
        return self.runners[runner_id]

    def frames_out(self) -> list[int]:
        """Which requests bring messages, oldest first; one more may be there that waits for news."""
        return [n for n, way in enumerate(self.requests) if way.request.parcel is not None]

    def arrive(self, which: int | None = None, *, again: bool = False) -> bool:
        """Let a request reach its runner; False if the runner holds the answer back.

        :param which: the oldest that brings messages, unless told otherwise.
        :param again: leave a copy in the network; the sender will hear that this exchange failed.
        """
        which = self.frames_out()[0] if which is None else which
        on_the_way = self.requests[which]
        if not on_the_way.runner.alive:
            self.requests.pop(which)
            on_the_way.told(RunnerGone("it was killed"))
            return True
        answer = on_the_way.runner.answer(on_the_way.request)
        if again:
            on_the_way.repeated = True
            return False
        if on_the_way.repeated:  # an answer went to the first copy, and that one was lost
            self.lose(self.requests, which)
            return True
        if answer is None:
            return False
        self.requests.pop(which)
        on_the_way.answer = answer
        self.answers.append(on_the_way)
        return True

    def return_answer(self, which: int = 0) -> None:
        """Let an answer reach the sender."""
        on_the_way = self.answers.pop(which)
        assert on_the_way.answer is not None
        on_the_way.told(on_the_way.answer)

    def lose(self, way: list[OnTheWay], which: int = 0) -> None:
        """Lose a request or an answer; the sender hears that the exchange failed."""
        way.pop(which).told(RunnerUnreachable("lost"))

    # -- what tests do

    def shard_of(self, entity_id: str) -> ShardId:
        return ShardId("default", shard_number("Ledger", entity_id, self.config.shards_per_group))

    def add_runner(self, runner_id: str) -> FakeRunner:
        """A runner that serves nothing yet."""
        runner = self.runners[runner_id] = FakeRunner(self, runner_id)
        return runner

    def grant(self, runner_id: str, *shards: ShardId) -> None:
        """Let a runner serve shards (all, if none are named), and let the routes say so."""
        self.version += 1
        for shard in shards or shards_of("default", self.config.shards_per_group):
            self.runners[runner_id].serving.add(shard)
            self.owners[shard] = (runner_id, Epoch(1, self.version))

    def send(self, entity_id: str, timeout_s: float | None = None, name: str = "put") -> EntityResponse[int]:
        """Send the next number, and wait for it: so it leaves as soon as there is room for its exchange."""
        self.sent += 1
        outgoing = getattr(self.client.reference(Ledger, entity_id), name)
        if timeout_s is not None:
            outgoing = outgoing.options(timeout_s=timeout_s)
        reply = cast("EntityResponse[int]", outgoing.remote(self.sent))
        self.client.hurry()
        return reply

    def advance(self, seconds: float) -> None:
        """Move the clock from alarm to alarm."""
        target = self.now_s + seconds
        while self.alarms and min(self.alarms) <= target:
            due = min(self.alarms)
            self.alarms[:] = [when for when in self.alarms if when > due]
            self.now_s = max(self.now_s, due)
            self.client.tick()
        self.now_s = target

    def settle(self) -> None:
        """Deliver everything, oldest first, until nothing moves."""
        moved = True
        while moved:
            moved = self.registers and self.tell_registered()
            moved = self.tell_routes() or moved
            which = 0
            while which < len(self.requests):
                if self.arrive(which):
                    moved = True
                else:
                    which += 1
            while self.answers:
                self.return_answer()
                moved = True

    def counted(self) -> MetricsSnapshot:
        """What the client has counted."""
        self.client.flush()
        return MetricsSnapshot(self.recorder.totals())


def one_runner(**config: Any) -> tuple[World, FakeRunner]:
    """A world whose one runner serves everything, with the type registered and the routes known."""
    world = World(ClusterConfig(shards_per_group=4, **config))
    runner = world.add_runner("one")
    world.grant("one")
    first = world.send("first")
    world.settle()
    assert first.result() == 1
    world.taken.clear()
    world.ran.clear()
    world.frames.clear()
    return world, runner


def outcome(response: EntityResponse[Any]) -> Any:
    """The value, or the error, of a reply that is there."""
    error = response.exception()
    return response.result() if error is None else error


def two_runners() -> tuple[World, str]:
    """A world in which "one" serves everything and "two" nothing yet; and an entity's id."""
    world, _ = one_runner()
    world.add_runner("two")
    return world, "a"
