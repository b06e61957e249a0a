"""Idle entities are let go on time, never too early, and never at the cost of a message."""

from __future__ import annotations

import asyncio
import gc
import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cluster_app import ActivationFailed, Cluster, Entity, HandlerError, entity, message
from cluster_app.testing import MemoryCluster
from entities.activation import Phase

if TYPE_CHECKING:
    from tests.conftest import Counts


class Guest(Entity):
    """Comes, and goes when nobody talks to it."""

    def __init__(self) -> None:
        self.born = uuid.uuid4().hex
        self.heard: list[int] = []
        self.ticks = 0

    @message
    def hear(self, number: int) -> str:
        self.heard.append(number)
        return self.born

    @message
    def told(self) -> list[int]:
        return self.heard

    @message
    async def work(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return self.born

    @message
    def stay(self, seconds: float) -> str:
        self.keep_alive(seconds)
        return self.born

    @message
    def leave(self) -> str:
        self.deactivate()
        return self.born

    @message
    async def leave_and_work(self, seconds: float) -> str:
        self.deactivate()
        await asyncio.sleep(seconds)
        return self.born

    @message
    def tick(self) -> None:
        self.ticks += 1

    @message
    def tick_every(self, seconds: float) -> str:
        self.every(seconds, "tick")
        return self.born

    @message
    def ticked(self) -> int:
        return self.ticks

    @message
    def bad_timer(self) -> None:
        self.every(1.0, "no_such")


@entity(name="passivation.Brief", max_idle_time=0.2)
class Brief(Guest):
    """Goes after a fifth of a second."""


@entity(name="passivation.Patient", max_idle_time=60.0)
class Patient(Guest):
    """Goes after a minute."""


@entity(name="passivation.Busy", max_idle_time=60.0, concurrency=2)
class Busy(Entity):
    """Has two timers, one of whose messages takes half a second."""

    @message
    def begin(self) -> None:
        self.every(1.0, "note")
        self.every(1.0, "work")

    @message
    def note(self) -> str:
        return "noted"

    @message
    async def work(self) -> None:
        await asyncio.sleep(0.5)


@entity(name="passivation.Stillborn")
class Stillborn(Guest):
    """Asks for a timer and fails to come to life."""

    def __init__(self) -> None:
        super().__init__()
        self.every(1.0, "note")
        raise ValueError("not viable")

    @message
    def note(self) -> None: ...


@entity(name="passivation.Late", max_idle_time=None)
class Late(Guest):
    """Takes its time to come to life, and asks for a timer then."""

    async def on_activate(self) -> None:
        await asyncio.sleep(20.0)
        self.every(1.0, "note")

    @message
    def note(self) -> None: ...


class Day:
    """What a Daily holds."""


days: list[Day] = []


@entity(name="passivation.Daily", max_idle_time=60.0)
class Daily(Entity):
    """Has a timer that fires once a day."""

    def __init__(self) -> None:
        self.day = Day()
        days.append(self.day)
        self.every(86_400.0, "note")

    @message
    def note(self) -> str:
        return "noted"


@entity(name="passivation.Settled", max_idle_time=None)
class Settled(Guest):
    """Stays, unless told to go."""


@entity(name="passivation.Slow", max_idle_time=0.2)
class Slow(Guest):
    """Takes its time to come and to go."""

    async def on_activate(self) -> None:
        await asyncio.sleep(0.05)

    async def on_deactivate(self, reason: str) -> None:
        await asyncio.sleep(0.05)


@entity(name="passivation.Sore", max_idle_time=None)
class Sore(Guest):
    """Raises when it goes."""

    async def on_deactivate(self, reason: str) -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError if self.heard and self.heard[0] == 1 else ValueError("sore")


def live(cluster: Cluster, name: str) -> int:
    """How many entities of that type live."""
    return cluster.status().entities.get(name, 0)


def test_an_idle_entity_goes_after_its_time_exactly(memory_cluster: MemoryCluster) -> None:
    """A minute after its last message, not a millisecond before; counted with its reason and its lifetime."""
    patient = memory_cluster.entity(Patient, "exact")
    first = patient.hear.remote(1).result(30)
    memory_cluster.clock.advance(59.999)
    assert live(memory_cluster, "passivation.Patient") == 1
    memory_cluster.clock.advance(0.001)
    assert live(memory_cluster, "passivation.Patient") == 0
    assert patient.hear.remote(2).result(30) != first
    metrics = memory_cluster.metrics()
    labels = {"entity_type": "passivation.Patient"}
    assert metrics.value("cluster_entity_activations_total", **labels) == 2
    assert metrics.value("cluster_entity_deactivations_total", **labels, reason="idle") == 1
    assert metrics.value("cluster_entity_deactivations_total", **labels) == 1
    lifetime = metrics.histogram("cluster_entity_lifetime_seconds", **labels)
    assert lifetime.count == 1
    assert lifetime.sum == pytest.approx(60.0, abs=1e-6)
    assert metrics.value("cluster_entities", **labels) == 1


def test_every_message_starts_the_idle_time_anew(memory_cluster: MemoryCluster) -> None:
    """Spoken to each 59 s it lives for ever; then it goes 60 s after the last."""
    patient = memory_cluster.entity(Patient, "anew")
    births = set()
    for number in range(10):
        births.add(patient.hear.remote(number).result(30))
        memory_cluster.clock.advance(59.0)
    assert len(births) == 1
    memory_cluster.clock.advance(0.999)
    assert live(memory_cluster, "passivation.Patient") == 1
    memory_cluster.clock.advance(0.001)
    assert live(memory_cluster, "passivation.Patient") == 0


def test_a_thousand_entities_each_go_at_their_own_time(memory_cluster: MemoryCluster) -> None:
    """Activated one per second, they go one per second, in order."""
    for number in range(50):
        memory_cluster.entity(Patient, str(number)).hear.remote(number).result(30)
        memory_cluster.clock.advance(1.0)
    assert live(memory_cluster, "passivation.Patient") == 50
    memory_cluster.clock.advance(10.0)
    for left in range(49, -1, -1):
        assert live(memory_cluster, "passivation.Patient") == left
        memory_cluster.clock.advance(1.0)


def test_an_entity_that_works_is_not_idle(memory_cluster: MemoryCluster) -> None:
    """A handler of 25 s outlives an idle time of 0.2 s, and so does what waits behind it; then the time starts."""
    brief = memory_cluster.entity(Brief, "working")
    long = brief.work.remote(25.0)
    queued = brief.hear.remote(1)
    memory_cluster.clock.advance(24.9)
    assert live(memory_cluster, "passivation.Brief") == 1
    assert not queued.done()
    memory_cluster.clock.advance(0.1)
    assert long.result(30) == queued.result(30)
    memory_cluster.clock.advance(0.199)
    assert live(memory_cluster, "passivation.Brief") == 1
    memory_cluster.clock.advance(0.001)
    assert live(memory_cluster, "passivation.Brief") == 0


def test_keep_alive_holds_an_entity_and_lets_it_go(memory_cluster: MemoryCluster) -> None:
    """Kept for 100 s it goes then, not after its 60 s; a shorter promise does not shorten a longer one."""
    patient = memory_cluster.entity(Patient, "kept")
    patient.stay.remote(100.0).result(30)
    patient.stay.remote(1.0).result(30)
    memory_cluster.clock.advance(99.999)
    assert live(memory_cluster, "passivation.Patient") == 1
    memory_cluster.clock.advance(0.001)
    assert live(memory_cluster, "passivation.Patient") == 0


def test_without_an_idle_time_an_entity_stays(memory_cluster: MemoryCluster) -> None:
    """A day later it is still the same one."""
    settled = memory_cluster.entity(Settled, "stays")
    born = settled.hear.remote(1).result(30)
    memory_cluster.clock.advance(600.0)
    assert settled.hear.remote(2).result(30) == born


def test_passivation_works_in_real_time(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """On either transport: idle for its time, the entity is gone, and the next message makes another."""
    brief = cluster.entity(Brief, uuid.uuid4().hex)
    first = brief.hear.remote(1).result(30)
    assert brief.hear.remote(2).result(30) == first
    let_pass(0.5)
    second = brief.hear.remote(3).result(30)
    assert second != first
    assert brief.told.remote().result(30) == [3]
    let_pass(0.5)
    counts.refresh()
    labels = {"entity_type": "passivation.Brief"}
    assert counts.of("cluster_entity_activations_total", **labels) == 2
    assert counts.of("cluster_entity_deactivations_total", **labels, reason="idle") == 2
    assert counts.of("cluster_entity_lifetime_seconds", **labels) == 2
    assert counts.of("cluster_entities", **labels) == 0
    counts.check_invariants("passivation.Brief")


def test_messages_that_meet_an_entity_being_let_go_wait_for_the_next(memory_cluster: MemoryCluster) -> None:
    """While a slow `on_deactivate` runs, five messages come: a new activation handles them, in order, once."""
    slow = memory_cluster.entity(Slow, "leaving")
    reply = slow.hear.remote(0)
    memory_cluster.clock.advance(0.05)
    first = reply.result(30)
    memory_cluster.clock.advance(0.22)  # idle at 0.2, gone at 0.25
    replies = [slow.hear.remote(number) for number in range(1, 6)]
    memory_cluster.clock.settle()
    assert not any(each.done() for each in replies)
    told = slow.told.remote()
    memory_cluster.clock.advance(0.1)
    births = {each.result(30) for each in replies}
    assert len(births) == 1
    assert births != {first}
    assert told.result(30) == [1, 2, 3, 4, 5]
    metrics = memory_cluster.metrics()
    labels = {"entity_type": "passivation.Slow"}
    assert metrics.value("cluster_entity_activations_total", **labels) == 2
    assert metrics.value("cluster_entity_deactivations_total", **labels, reason="idle") == 1
    assert metrics.value("cluster_messages_received_total", **labels) == 7


@pytest.mark.parametrize("kind", [Brief, Slow])
def test_a_storm_of_messages_while_entities_come_and_go_loses_nothing(
    memory_cluster: MemoryCluster, kind: type[Guest]
) -> None:
    """Messages meet each entity at every moment of its life: all are answered, each once, in order per life."""
    name = f"passivation.{kind.__name__}"
    guests = [memory_cluster.entity(kind, f"storm-{number}") for number in range(5)]
    replies = []
    for number in range(300):
        # Steps of 0 to 0.33 s: before, at and after the idle time, and within the hooks.
        for place, guest in enumerate(guests):
            replies.append((place, guest.hear.remote(number)))
        memory_cluster.clock.advance((number * 7 % 34) / 100)
    memory_cluster.clock.advance(1.0)
    births: list[list[str]] = [[] for _ in guests]
    for place, reply in replies:
        assert reply.done()
        births[place].append(reply.result(0))
    lives = 0
    for sequence in births:
        # Once another instance has answered, the earlier one never answers again.
        changes = [born for n, born in enumerate(sequence) if n == 0 or sequence[n - 1] != born]
        assert len(changes) == len(set(changes))
        lives += len(changes)
    assert lives > 100
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_messages_sent_total", entity_type=name) == 1500
    assert metrics.value("cluster_messages_received_total", entity_type=name) == 1500
    assert metrics.value("cluster_errors_total", entity_type=name) == 0
    assert metrics.value("cluster_redeliveries_total", entity_type=name) == 0
    assert metrics.value("cluster_entity_activations_total", entity_type=name) == lives
    assert metrics.value("cluster_entity_deactivations_total", entity_type=name, reason="idle") == lives
    assert metrics.value("cluster_entities", entity_type=name) == 0


def test_an_entity_may_end_itself(cluster: Cluster, counts: Counts) -> None:
    """`deactivate()`: the message being handled ends, what waits meets a new activation, in order."""
    settled = cluster.entity(Settled, uuid.uuid4().hex)
    first = settled.hear.remote(0).result(30)
    leaving = settled.leave.remote()
    after = [settled.hear.remote(number) for number in range(1, 50)]
    assert leaving.result(30) == first
    births = {reply.result(30) for reply in after}
    assert len(births) == 1
    assert births != {first}
    assert settled.told.remote().result(30) == list(range(1, 50))
    counts.refresh()
    labels = {"entity_type": "passivation.Settled"}
    assert counts.of("cluster_entity_activations_total", **labels) == 2
    assert counts.of("cluster_entity_deactivations_total", **labels, reason="explicit") == 1
    assert counts.of("cluster_messages_received_total", **labels) == 52
    counts.check_invariants("passivation.Settled")


def test_an_entity_that_ends_itself_finishes_what_it_is_doing(cluster: Cluster) -> None:
    """It says goodbye, works on, and its reply comes from the old instance; the next message meets a new one."""
    settled = cluster.entity(Settled, uuid.uuid4().hex)
    first = settled.hear.remote(0).result(30)
    leaving = settled.leave_and_work.remote(0.0)
    after = settled.hear.remote(1)
    assert leaving.result(30) == first
    assert after.result(30) != first


@pytest.mark.parametrize("number", [0, 1], ids=["ValueError", "CancelledError"])
def test_on_deactivate_that_raises_does_not_keep_the_entity(
    cluster: Cluster, counts: Counts, number: int
) -> None:
    """It goes all the same, counted as failed, and the next message meets a new one."""
    sore = cluster.entity(Sore, uuid.uuid4().hex)
    first = sore.hear.remote(number).result(30)
    assert sore.leave.remote().result(30) == first
    assert sore.hear.remote(5).result(30) != first
    counts.refresh()
    labels = {"entity_type": "passivation.Sore"}
    assert counts.of("cluster_entity_deactivations_total", **labels, reason="failed") == 1
    assert counts.of("cluster_entity_deactivations_total", **labels) == 1
    assert counts.of("cluster_entity_activations_total", **labels) == 2


def test_a_timer_ticks_on_time_for_as_long_as_the_entity_lives(memory_cluster: MemoryCluster) -> None:
    """Set in a handler it goes on long after that message's own deadline, and dies with the activation."""
    settled = memory_cluster.entity(Settled, "timer")
    settled.tick_every.remote(1.0).result(30)
    memory_cluster.clock.advance(0.999)
    assert settled.ticked.remote().result(30) == 0
    memory_cluster.clock.advance(99.001)
    assert settled.ticked.remote().result(30) == 100
    settled.leave.remote().result(30)
    memory_cluster.clock.advance(100.0)
    assert live(memory_cluster, "passivation.Settled") == 0
    assert settled.ticked.remote().result(30) == 0
    memory_cluster.clock.advance(100.0)
    assert settled.ticked.remote().result(30) == 0


def test_a_timer_does_not_keep_its_entity_alive(memory_cluster: MemoryCluster) -> None:
    """Ticking every second it goes 60 s after its last message, exactly, and the ticks end with it."""
    patient = memory_cluster.entity(Patient, "ticking")
    born = patient.tick_every.remote(1.0).result(30)
    memory_cluster.clock.advance(30.5)
    assert patient.hear.remote(1).result(30) == born
    memory_cluster.clock.advance(59.75)
    assert live(memory_cluster, "passivation.Patient") == 1
    memory_cluster.clock.advance(0.25)
    assert live(memory_cluster, "passivation.Patient") == 0
    metrics = memory_cluster.metrics()
    labels = {"entity_type": "passivation.Patient"}
    assert metrics.value("cluster_entity_deactivations_total", **labels, reason="idle") == 1
    sent = metrics.value("cluster_messages_sent_total", **labels)
    assert sent == 2 + 90
    memory_cluster.clock.advance(100.0)
    assert memory_cluster.metrics().value("cluster_messages_sent_total", **labels) == sent


def test_a_timer_that_fires_when_its_entity_is_due_does_not_save_it(memory_cluster: MemoryCluster) -> None:
    """Both at the same moment, again and again: it goes at that moment."""
    patient = memory_cluster.entity(Patient, "aligned")
    patient.tick_every.remote(20.0).result(30)
    memory_cluster.clock.advance(59.75)
    assert live(memory_cluster, "passivation.Patient") == 1
    memory_cluster.clock.advance(0.25)
    assert live(memory_cluster, "passivation.Patient") == 0


def test_two_timers_do_not_keep_each_others_entity_alive(memory_cluster: MemoryCluster) -> None:
    """They fire at the same moments, and one takes its time: neither is use."""
    busy = memory_cluster.entity(Busy, "x")
    busy.begin.remote().result(30)
    memory_cluster.clock.advance(59.0)
    assert live(memory_cluster, "passivation.Busy") == 1
    memory_cluster.clock.advance(2.0)
    assert live(memory_cluster, "passivation.Busy") == 0


def test_a_message_that_comes_and_goes_beside_a_timers_is_use(memory_cluster: MemoryCluster) -> None:
    """Both are handled at the same time, and the timer's ends last."""
    busy = memory_cluster.entity(Busy, "x")
    busy.begin.remote().result(30)
    memory_cluster.clock.advance(50.25)
    assert busy.note.remote().result(30) == "noted"
    memory_cluster.clock.advance(59.5)
    assert live(memory_cluster, "passivation.Busy") == 1
    memory_cluster.clock.advance(2.0)
    assert live(memory_cluster, "passivation.Busy") == 0


def test_a_timer_of_what_never_lived_or_is_lost_is_none(memory_cluster: MemoryCluster) -> None:
    """Asked for by an `__init__` that then raises, and by an `on_activate` that goes on when its shard is lost."""
    with pytest.raises(ActivationFailed):
        memory_cluster.entity(Stillborn, "x").note.remote().result(5)
    reply = memory_cluster.entity(Late, "x").note.options(timeout_s=100).remote()
    memory_cluster.clock.settle()
    memory = memory_cluster._memory
    owner = memory._service[0].owner("passivation.Late", "x")
    assert owner is not None
    memory_cluster.pause(owner)
    memory_cluster.clock.advance(8.0)
    memory_cluster.resume(owner)
    memory_cluster.clock.advance(60.0)
    assert reply.done()
    ticking = [
        activation for runner in memory._runners.values() for activation in runner.runner.host._idle.ticking
    ]
    assert all(activation.phase is Phase.ACTIVE for activation in ticking)


def test_a_timer_holds_no_entity_that_has_gone(memory_cluster: MemoryCluster) -> None:
    """It would fire tomorrow; what the entity was is let go of today."""
    daily = memory_cluster.entity(Daily, "x")
    assert daily.note.remote().result(30) == "noted"
    kept = weakref.ref(days.pop())
    assert kept() is not None
    memory_cluster.clock.advance(61.0)
    assert live(memory_cluster, "passivation.Daily") == 0
    gc.collect()
    assert kept() is None


def test_a_timers_message_that_still_waits_is_not_doubled(memory_cluster: MemoryCluster) -> None:
    """Behind a handler of ten seconds there is one tick, not ten; then they go on as before."""
    settled = memory_cluster.entity(Settled, "undoubled")
    settled.tick_every.remote(1.0).result(30)
    memory_cluster.clock.advance(2.5)
    working = settled.work.remote(10.0)
    memory_cluster.clock.advance(10.0)
    assert working.result(30)
    assert settled.ticked.remote().result(30) == 3
    memory_cluster.clock.advance(2.0)
    assert settled.ticked.remote().result(30) == 5


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_timer_needs_a_time_above_zero(memory_cluster: MemoryCluster, seconds: float) -> None:
    """ValueError in the handler that asks for it."""
    with pytest.raises(HandlerError, match="seconds above 0"):
        memory_cluster.entity(Settled, "bad").tick_every.remote(seconds).result(30)


def test_a_timer_for_no_message_is_refused(cluster: Cluster) -> None:
    """ValueError in the handler that asks for it."""
    with pytest.raises(HandlerError, match="no_such"):
        cluster.entity(Settled, uuid.uuid4().hex).bad_timer.remote().result(30)
