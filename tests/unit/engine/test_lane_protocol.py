"""The lane protocol under loss, repetition and reordering: order, and exactly one fate for each message.

The model drives a single pair of lanes exchange by exchange.
"""

from __future__ import annotations

import itertools
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_app.ended_lanes import EndedLanes
from cluster_app.envelope import Codec, read_messages
from cluster_app.exchange import Answer, Parcel, Request
from cluster_app.inbound_lane import InboundLane
from cluster_app.outbound_lane import OutboundLane
from cluster_app.shard import ShardId
from entities.delivery import Delivery
from entities.response import EntityResponse, settle

SHARD = ShardId("default", 0)
index = st.integers(0, 11)
MODEL = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def outbound(max_messages: int = 3) -> OutboundLane:
    """A sender's end."""
    return OutboundLane("sender", 0, "one", max_messages=max_messages, max_bytes=1_000_000)


class Kind:
    """All that a lane asks of a kind of message."""

    names = ("Ledger", "put")
    trace = None

    @property
    def real(self) -> Kind:
        return self


KIND = Kind()


def numbered(number: int, stream: int = 0) -> EntityResponse[Any]:
    """A message that carries its number."""
    route = SimpleNamespace(kind=KIND, entity_id="a", slot=SimpleNamespace(stream=stream))
    return EntityResponse(route, (number,), 0.0)


def delivery(lane: InboundLane, sequence: int) -> Delivery:
    """A message that the runner took."""
    return cast(
        Delivery, SimpleNamespace(origin=lane, sequence=sequence, message=SimpleNamespace(name="put"))
    )


class LanePair(RuleBasedStateMachine):
    """Messages one way, answers the other, over a wire that loses, repeats and reorders both."""

    def __init__(self) -> None:
        super().__init__()
        self.out = outbound()
        self.into = InboundLane("sender", 0, Codec())
        self.sent = 0
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.accepted: list[int] = []
        self.running: list[Delivery] = []
        self.replies: list[EntityResponse[Any]] = []
        self.ended: list[int] = []

    def ask(self, parcel: Parcel | None, resume: bool = False) -> None:
        self.requests.append(Request("sender", 0, parcel, self.out.acknowledged, resume, wait_s=1.0))

    def arrives(self, request: Request) -> None:
        lane = self.into
        lane.acknowledge(request.acknowledged)
        if request.parcel is not None:
            frame = read_messages(request.parcel.data)
            for due, _ in lane.offer(frame, ()):
                for position, args in enumerate(due.arguments):
                    assert args is not None
                    taken = delivery(lane, due.first + position)
                    lane.unanswered[due.first + position] = taken
                    self.accepted.append(args[0])
                    self.running.append(taken)
        lane.publish()
        self.answers.append(Answer(lane.received, lane.published, lane.take(resume=request.resume)))

    def told(self, answer: Answer) -> None:
        self.out.received(answer.received)
        for frame, _ in self.out.answered(answer.parcels):
            sequences = frame.sequences or range(frame.first, frame.first + len(frame.values))
            for sequence, value in zip(sequences, frame.values, strict=True):
                message = self.out.in_flight.pop(sequence)  # a KeyError here is a second answer
                self.ended.append(value)
                settle(message, value, None)

    @rule(count=st.integers(1, 7))
    def send(self, count: int) -> None:
        """Messages join the queue; a frame leaves."""
        for _ in range(count):
            self.replies.append(numbered(self.sent))
            self.out.queue.append(self.replies[-1])
            self.sent += 1
        made = self.out.frame(0.0, 30.0, 0)
        assert made is not None
        self.ask(made[0])

    @rule()
    def poll(self) -> None:
        """The sender asks for answers."""
        self.ask(None)

    @rule()
    def resume(self) -> None:
        """The sender asks again about all that it does not know to have arrived."""
        for parcel in self.out.unreceived:
            self.ask(parcel, resume=True)
        self.ask(None, resume=True)

    @precondition(lambda self: self.requests)
    @rule(which=index, again=st.booleans())
    def request_arrives(self, which: int, again: bool) -> None:
        """Any request, perhaps not for the last time."""
        which %= len(self.requests)
        self.arrives(self.requests[which] if again else self.requests.pop(which))

    @precondition(lambda self: self.answers)
    @rule(which=index, again=st.booleans())
    def answer_arrives(self, which: int, again: bool) -> None:
        """Any answer, perhaps not for the last time."""
        which %= len(self.answers)
        self.told(self.answers[which] if again else self.answers.pop(which))

    @precondition(lambda self: self.requests)
    @rule(which=index)
    def request_is_lost(self, which: int) -> None:
        """It never arrives."""
        self.requests.pop(which % len(self.requests))

    @precondition(lambda self: self.answers)
    @rule(which=index)
    def answer_is_lost(self, which: int) -> None:
        """It never arrives."""
        self.answers.pop(which % len(self.answers))

    @precondition(lambda self: self.running)
    @rule(which=index)
    def handler_ends(self, which: int) -> None:
        """Any handler, in any order; a second answer for it does nothing."""
        ended = self.running.pop(which % len(self.running))
        number = self.accepted[ended.sequence]
        self.into.answer(ended, number, None)
        self.into.answer(ended, -1, None)

    @invariant()
    def each_is_accepted_once_and_in_order(self) -> None:
        """What was accepted is what was sent, from the first on, without a gap."""
        assert self.accepted == list(range(len(self.accepted)))

    @invariant()
    def each_ends_once(self) -> None:
        """No answer is counted twice, and each carries its own message's value."""
        assert len(self.ended) == len(set(self.ended))
        assert [reply.result() for reply in self.replies if reply.done()] == [
            number for number, reply in enumerate(self.replies) if reply.done()
        ]

    def teardown(self) -> None:
        """With a wire that works again everything ends, and nothing is kept."""
        self.requests.clear()
        self.answers.clear()
        while (made := self.out.frame(0.0, 30.0, 0)) is not None:
            self.ask(made[0])
        self.requests.clear()  # all of these are lost too: only what is kept can bring them
        self.resume()
        for request in self.requests:
            self.arrives(request)
        for running in self.running:
            self.into.answer(running, self.accepted[running.sequence], None)
        self.requests.clear()
        self.resume()
        self.ask(None)
        for request in self.requests:
            self.arrives(request)
        for answer in self.answers:
            self.told(answer)
        assert sorted(self.ended) == list(range(self.sent))
        assert self.accepted == list(range(self.sent))
        self.into.acknowledge(self.out.acknowledged)
        assert not self.out.in_flight and not list(self.out.unreceived) and not self.out._early
        assert not self.into.unanswered and not self.into._early
        assert not self.into._unacknowledged and not self.into._untold and not self.into.has_news


TestLanePair = LanePair.TestCase
TestLanePair.settings = MODEL


# -- lanes that are swept


class SweptLanes(RuleBasedStateMachine):
    """A sender whose runner forgets its lane now and then, over the same wire; it begins a new lane when it hears so.

    Nothing here may run twice, so what was in flight on a lane that was forgotten ends, and is not sent again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.waiting: deque[EntityResponse[Any]] = deque()
        self.begin()
        self.lanes: dict[int, InboundLane] = {}
        self.ended_lanes = EndedLanes()
        self.sent = 0
        self.under_way = 0  # frames not answered: a sender has two at most
        self.requests: list[Request] = []
        self.answers: list[tuple[Request, Answer]] = []
        self.accepted: list[int] = []
        self.running: list[tuple[Delivery, int]] = []
        self.fates: dict[int, str] = {}

    def begin(self) -> None:
        """A lane of a later number; what had not left goes first."""
        self.out = OutboundLane("sender", next(self.numbers), "one", max_messages=2, max_bytes=1_000_000)
        self.out.queue.extend(self.waiting)
        self.waiting.clear()
        self.under_way = 0

    def ask(self, parcel: Parcel | None, resume: bool = False) -> None:
        lane = self.out.number
        self.requests.append(Request("sender", lane, parcel, self.out.acknowledged, resume, wait_s=1.0))

    def end(self, number: int, fate: str) -> None:
        assert number not in self.fates
        self.fates[number] = fate

    def arrives(self, request: Request) -> None:
        lane = self.lanes.get(request.lane)
        if lane is None:
            if not self.ended_lanes.lets_begin(request):
                self.answers.append((request, Answer(-1, 0)))
                return
            lane = self.lanes[request.lane] = InboundLane("sender", request.lane, Codec())
        lane.acknowledge(request.acknowledged)
        if request.parcel is not None:
            for due, _ in lane.offer(read_messages(request.parcel.data), ()):
                for position, args in enumerate(due.arguments):
                    assert args is not None
                    taken = delivery(lane, due.first + position)
                    lane.unanswered[due.first + position] = taken
                    self.accepted.append(args[0])
                    self.running.append((taken, args[0]))
        lane.publish()
        answer = Answer(lane.received, lane.published, lane.take(resume=request.resume))
        self.answers.append((request, answer))

    def told(self, request: Request, answer: Answer) -> None:
        if request.lane != self.out.number:
            return
        if request.parcel is not None:
            self.under_way = max(0, self.under_way - 1)
        if answer.received < 0:
            for message in self.out.in_flight.values():
                self.end(message.args[0], "may have run")
            self.waiting.extend(self.out.queue)
            self.begin()
            return
        self.out.received(answer.received)
        for frame, _ in self.out.answered(answer.parcels):
            sequences = frame.sequences or range(frame.first, frame.first + len(frame.values))
            for sequence, value in zip(sequences, frame.values, strict=True):
                message = self.out.in_flight.pop(sequence)
                assert message.args == (value,)
                self.end(value, "ok")

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        """Messages join the queue; a frame leaves if fewer than two are under way."""
        for _ in range(count):
            self.out.queue.append(numbered(self.sent))
            self.sent += 1
        if self.under_way < 2 and (made := self.out.frame(0.0, 30.0, 0)) is not None:
            self.under_way += 1
            self.ask(made[0])

    @precondition(lambda self: not self.under_way and self.out.next_frame)
    @rule()
    def poll(self) -> None:
        """The sender asks for answers."""
        self.ask(None)

    @precondition(lambda self: self.out.next_frame)
    @rule()
    def resume(self) -> None:
        """Exchanges failed: all that is not known to have arrived is sent again."""
        again = list(self.out.unreceived)
        for parcel in again:
            self.ask(parcel, resume=True)
        if not again:
            self.ask(None, resume=True)

    @precondition(lambda self: self.requests)
    @rule(which=index, again=st.booleans())
    def request_arrives(self, which: int, again: bool) -> None:
        """Any request, perhaps not for the last time."""
        which %= len(self.requests)
        self.arrives(self.requests[which] if again else self.requests.pop(which))

    @precondition(lambda self: self.answers)
    @rule(which=index)
    def answer_arrives(self, which: int) -> None:
        """Any answer."""
        self.told(*self.answers.pop(which % len(self.answers)))

    @precondition(lambda self: self.answers)
    @rule(which=index)
    def answer_is_lost(self, which: int) -> None:
        """It never arrives."""
        self.answers.pop(which % len(self.answers))

    @precondition(lambda self: self.running)
    @rule(which=index)
    def handler_ends(self, which: int) -> None:
        """Any handler, in any order."""
        ended, number = self.running.pop(which % len(self.running))
        cast(InboundLane, ended.origin).answer(ended, number, None)

    @precondition(lambda self: self.lanes)
    @rule(which=index, others=st.sampled_from([0, 20_000]))
    def sweep(self, which: int, others: int) -> None:
        """The runner has not heard of a lane for long: it forgets it, and many of other senders."""
        number = sorted(self.lanes)[which % len(self.lanes)]
        del self.lanes[number]
        self.ended_lanes.add(("sender", number))
        for other in range(others):
            self.ended_lanes.add((f"sender {other}", 0))
        self.ended_lanes.swept()

    @invariant()
    def nothing_runs_twice_and_nothing_overtakes(self) -> None:
        """Whatever was forgotten: what was let in is in the order in which it was sent, each once."""
        assert self.accepted == sorted(set(self.accepted))

    @invariant()
    def what_ended_well_was_let_in(self) -> None:
        """A value comes from a handler."""
        accepted = set(self.accepted)
        assert all(number in accepted for number, fate in self.fates.items() if fate == "ok")


TestSweptLanes = SweptLanes.TestCase
TestSweptLanes.settings = MODEL


# -- refusals and restarted streams


def test_a_refused_shard_lets_nothing_in_until_its_stream_restarts() -> None:
    """A later message of the same stream would overtake the refused one, even once the shard is served again."""
    lane = InboundLane("sender", 0, Codec())
    assert lane.admits(SHARD, 0)
    lane.refuse(0, SHARD, 0)
    assert not lane.admits(SHARD, 0)
    assert lane.admits(ShardId("default", 1), 0)
    assert lane.admits(SHARD, 1)
    assert lane.admits(SHARD, 1)


def test_what_is_sent_back_closes_the_stream_that_it_came_in_on() -> None:
    """A stream that was restarted once is closed all the same: what follows on it must not overtake."""
    lane = InboundLane("sender", 0, Codec())
    lane.refuse(0, SHARD, 0)
    assert lane.admits(SHARD, 1)
    taken = delivery(lane, 1)
    lane.unanswered[1] = taken
    lane.send_back(taken, SHARD)
    assert not lane.admits(SHARD, 1)
    assert lane.admits(SHARD, 2)


def test_a_repeated_frame_is_not_due_again() -> None:
    """Whether it had been due at once or had waited for an earlier one."""
    out, into = outbound(max_messages=1), InboundLane("sender", 0, Codec())
    out.queue.extend(numbered(n) for n in range(3))
    frames = []
    for _ in range(3):
        made = out.frame(0.0, 30.0, 0)
        assert made is not None
        frames.append(read_messages(made[0].data))
    assert into.offer(frames[1], ()) == []
    assert into.offer(frames[1], ()) == []
    assert [due.number for due, _ in into.offer(frames[0], ())] == [0, 1]
    for frame in frames[:2]:
        assert into.offer(frame, ()) == []
    assert [due.number for due, _ in into.offer(frames[2], ())] == [2]
    assert into.received == 3
