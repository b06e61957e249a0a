"""A host and the process that it wants for an entity, when that process does not come, or does not go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cluster_app.stepped_loop import SteppedClock, SteppedLoop
from entities import Entity, entity, message
from entities.activation import Activation
from entities.annex import AnnexLost, Left
from entities.crew import OpenGate
from entities.declaration import define
from entities.delivery import Delivery
from entities.errors import RunnerNotRegistered
from entities.host import EntityHost
from observe.exponential import ExponentialTotal
from observe.recorder import Recorder


@entity(hosting="actor", max_idle_time=10.0)
class Giant(Entity):
    @message
    def stand(self) -> None: ...


class FakeAnnex:
    """A process that comes, goes and is dead when the test says so."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self.ended = False
        self.lost = lost
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hinders: str | None = None
        self.asked_to_leave: list[str] = []
        self.left: asyncio.Future[Left] = asyncio.get_running_loop().create_future()
        self.buried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.burials = 0

    async def open(self, trace: str | None = None) -> None:
        await self.opened

    async def hindrance(self) -> str | None:
        return self.hinders

    def call(self, delivery: Delivery, args: Any, kwargs: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.ended:
            answer.set_exception(AnnexLost(sent=False))
        else:
            answer.set_result("stood")
        return answer

    def cancel(self, delivery: Delivery) -> None:
        """Nothing here takes long enough."""

    async def leave(self, reason: str) -> Left:
        self.asked_to_leave.append(reason)
        return await self.left if reason == "idle" else Left(0.0, reason)

    async def bury(self) -> None:
        self.burials += 1
        await self.buried


class Sender:
    """Where a message's answer goes."""

    sender = "test"

    def __init__(self) -> None:
        self.answers: list[tuple[Any, BaseException | None]] = []

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        self.answers.append((value, error))


class Stage:
    """One host on a stepped clock, and the fake processes that it asked for."""

    def __init__(self) -> None:
        self.loop = SteppedLoop()
        self.clock = SteppedClock(self.loop)
        self.annexes: list[FakeAnnex] = []
        self.host: EntityHost = self.run(self._make)

    async def _make(self) -> EntityHost:
        host = EntityHost(self.loop, self.loop.time, OpenGate(), Recorder(), None)  # type: ignore[arg-type]  # alone
        host.supervise(self)
        host.register(define(Giant))
        return host

    def annex(
        self, activation: Activation, lost: Callable[[], None], wants_out: Callable[[], None]
    ) -> FakeAnnex:
        self.annexes.append(FakeAnnex(lost))
        return self.annexes[-1]

    def run(self, step: Callable[[], Any]) -> Any:
        async def stepped() -> Any:
            result = step()
            if asyncio.iscoroutine(result):
                result = await result
            await self.loop.quiet()
            return result

        return self.loop.call(stepped())

    def send(self, timeout_s: float) -> Sender:
        """Send one message to the one entity there is."""
        sender = Sender()

        def send() -> None:
            hosted = self.host.live.hosted("Giant")
            assert hosted is not None
            now = self.loop.time()
            activation = hosted.live.get("x") or self.host.activator.activate(hosted, "x", 0, (1, 1), now)
            delivery = Delivery(sender, 0, hosted.messages["stand"], "x", (), now + timeout_s, now)
            assert self.host.turns.accept(delivery, activation) is None

        self.run(send)
        return sender

    @property
    def live(self) -> int:
        return self.host.live.counts()["Giant"]

    def counted(self, name: str) -> float:
        """The sum of a counter, or how much a histogram has counted, over all labels."""
        self.host.live.flush()
        total = 0.0
        for (of, _), value in self.host._recorder.totals().items():
            if of == name:
                assert not isinstance(value, ExponentialTotal)
                total += sum(value[0]) if isinstance(value, tuple) else value
        return total


@pytest.fixture
def stage() -> Any:
    """A host whose processes the test plays."""
    stage = Stage()
    yield stage
    stage.loop.end()


def test_a_message_without_hope_is_told_before_its_time_is_over(stage: Stage) -> None:
    """With what hinders; when nobody waits any more the process is given up, and the place is free once it is dead."""
    short, long = stage.send(2.0), stage.send(20.0)
    (annex,) = stage.annexes
    annex.hinders = "it demands num_gpus=8, and no node has that"
    stage.clock.advance(1.5)
    assert short.answers == []
    stage.clock.advance(0.45)
    ((_, error),) = short.answers
    assert isinstance(error, RunnerNotRegistered) and "num_gpus=8" in str(error) and not error.may_have_run
    assert long.answers == [] and annex.burials == 0

    stage.clock.advance(17.9)
    assert isinstance(long.answers[0][1], RunnerNotRegistered)
    assert annex.burials == 1 and stage.live == 1
    stage.run(lambda: annex.buried.set_result(None))
    assert stage.live == 0
    assert stage.counted("cluster_entity_activations_total") == 0
    assert stage.counted("cluster_entity_deactivations_total") == 0


def test_a_process_that_is_only_slow_is_waited_for(stage: Stage) -> None:
    """A message that outlives its start is handled; one that does not is not."""
    short, long = stage.send(2.0), stage.send(20.0)
    (annex,) = stage.annexes
    stage.clock.advance(5.0)
    assert [getattr(error, "reason", None) for _, error in short.answers] == ["Timeout"]
    stage.run(lambda: annex.opened.set_result(None))
    assert long.answers == [("stood", None)]
    assert stage.counted("cluster_entity_activations_total") == 1


def test_the_next_process_waits_for_the_death_of_the_last(stage: Stage) -> None:
    """Asked to go, gone, and dead are three moments; what arrives in between meets the next one after the last."""
    first = stage.send(60.0)
    (annex,) = stage.annexes
    stage.run(lambda: annex.opened.set_result(None))
    assert first.answers == [("stood", None)]
    stage.clock.advance(10.1)
    assert annex.asked_to_leave == ["idle"]

    second = stage.send(60.0)
    stage.run(lambda: annex.left.set_result(Left(0.0, "idle")))
    stage.clock.advance(5.0)
    assert annex.burials == 1 and stage.annexes == [annex] and second.answers == []
    stage.run(lambda: annex.buried.set_result(None))
    assert len(stage.annexes) == 2
    stage.run(lambda: stage.annexes[1].opened.set_result(None))
    assert second.answers == [("stood", None)]
    assert stage.counted("cluster_entity_deactivations_total") == 1
    assert stage.counted("cluster_messages_received_total") == 2


def test_a_process_that_fails_to_leave_is_ended_and_counted_as_lost(stage: Stage) -> None:
    """Whatever kept it from answering, as Ray's killing of what takes too much memory: its place becomes free."""
    stage.send(60.0)
    (annex,) = stage.annexes
    stage.run(lambda: annex.opened.set_result(None))
    stage.clock.advance(10.1)
    assert annex.asked_to_leave == ["idle"]
    second = stage.send(60.0)
    stage.run(lambda: annex.left.set_exception(MemoryError("killed")))
    assert annex.burials == 1
    stage.run(lambda: annex.buried.set_result(None))
    stage.run(lambda: stage.annexes[1].opened.set_result(None))
    assert second.answers == [("stood", None)]
    assert stage.counted("cluster_entity_deactivations_total") == 1


def test_who_asks_to_stay_is_asked_again_later(stage: Stage) -> None:
    """And what arrived meanwhile is handled by the same process."""
    stage.send(60.0)
    (annex,) = stage.annexes
    stage.run(lambda: annex.opened.set_result(None))
    stage.clock.advance(10.1)
    second = stage.send(60.0)
    stage.run(lambda: annex.left.set_result(Left(3.0, "")))
    assert second.answers == [("stood", None)]
    assert annex.burials == 0 and stage.live == 1


def test_who_asks_to_stay_on_a_shard_that_leaves_has_to_go(stage: Stage) -> None:
    """The shard was asked for while the entity was being asked: it is asked again, and not for idleness."""
    stage.send(60.0)
    (annex,) = stage.annexes
    stage.run(lambda: annex.opened.set_result(None))
    stage.clock.advance(10.1)
    assert stage.run(lambda: stage.host.deactivator.let_go_shards(lambda group, shard: True, "handoff")) == []
    stage.run(lambda: annex.left.set_result(Left(3.0, "")))
    assert annex.asked_to_leave == ["idle", "handoff"] and annex.burials == 1
    stage.run(lambda: annex.buried.set_result(None))
    assert stage.live == 0


def test_a_message_that_had_not_left_goes_to_the_next_process(stage: Stage) -> None:
    """The process was dead before: the message never ran, is counted once, and nobody hears of it."""
    stage.send(60.0)
    (annex,) = stage.annexes
    stage.run(lambda: annex.opened.set_result(None))
    annex.ended = True
    second = stage.send(60.0)
    assert second.answers == [] and annex.burials == 1
    stage.run(lambda: annex.buried.set_result(None))
    stage.run(lambda: stage.annexes[1].opened.set_result(None))
    assert second.answers == [("stood", None)]
    assert stage.counted("cluster_messages_received_total") == 2
    assert stage.counted("cluster_mailbox_wait_seconds") == 2
    assert stage.counted("cluster_handler_duration_seconds") == 2
    assert stage.counted("cluster_redeliveries_total") == 0
    assert stage.counted("cluster_entity_deactivations_total") == 1


def test_a_shard_that_leaves_does_not_wait_for_a_process_that_never_comes(stage: Stage) -> None:
    """Its messages go along unstarted, and its place is free as soon as there is surely no process."""
    waiting = stage.send(60.0)
    (annex,) = stage.annexes
    unstarted = stage.run(lambda: stage.host.deactivator.let_go_shards(lambda group, shard: True, "handoff"))
    assert len(unstarted) == 1 and waiting.answers == []
    stage.clock.advance(0.3)
    assert annex.burials == 1
    stage.run(lambda: annex.buried.set_result(None))
    assert stage.live == 0
