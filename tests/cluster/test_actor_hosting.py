"""Entities with a process of their own, in memory: the same life as any other's, and what may happen to a process."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from cluster_app import (
    ActivationFailed,
    CallCycle,
    Cancelled,
    Entity,
    HandlerError,
    MalformedMessage,
    RunnerUnavailable,
    Unknown,
    entity,
    memory_annex,
    message,
)
from cluster_app.annex_calls import Call, Reply
from cluster_app.testing import MemoryCluster
from entities.annex import AnsweredThere
from tests.conftest import Counts

LOG: list[tuple[str, str]] = []
"""What happened to the entities of a test, in order: (address, event)."""


@pytest.fixture(autouse=True)
def empty_log() -> None:
    """Each test begins with an empty log."""
    LOG.clear()


class Oracle(Entity):
    def __init__(self) -> None:
        self.asked = 0
        LOG.append((str(self.address), "born"))

    async def on_activate(self) -> None:
        LOG.append((str(self.address), "activated"))

    async def on_deactivate(self, reason: str) -> None:
        LOG.append((str(self.address), reason))

    @message
    def ask(self) -> int:
        self.asked += 1
        return self.asked

    @message
    async def ponder(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.ask()

    @message(idempotent=True)
    async def look(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.asked

    @message
    async def consult(self, others: list[Any]) -> int:
        return await others[0].consult.remote(others[1:]) if others else self.ask()

    @message
    async def consult_after(self, seconds: float, other: Any) -> int:
        await asyncio.sleep(seconds)
        return int(await other.ask.remote())

    @message
    def rest(self) -> None:
        self.deactivate()

    @message
    def stay(self, seconds: float) -> None:
        self.keep_alive(seconds)

    @message
    async def rest_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.deactivate)

    @message
    def tick(self, seconds: float) -> None:
        self.every(seconds, "ask")

    @message
    def fail(self) -> None:
        raise LookupError("no answer")

    @message
    def give(self) -> Any:
        return (number for number in range(3))

    @message
    def who(self) -> tuple[str, str, tuple[int, int]]:
        return str(self.address), str(self.sender), self.epoch


@entity(hosting="actor", max_idle_time=10.0)
class Seer(Oracle):
    pass


@entity(hosting="actor", max_idle_time=10.0, reentrant=True)
class Echo(Oracle):
    pass


@entity(hosting="actor", concurrency=3, max_idle_time=None)
class Panel(Oracle):
    pass


@entity(hosting="actor", mailbox_capacity=2, max_idle_time=None)
class Narrow(Oracle):
    pass


@entity(max_idle_time=None)
class Layman(Oracle):
    pass


@entity(hosting="actor")
class Stillborn(Oracle):
    def __init__(self) -> None:
        raise LookupError("nothing to live on")


@entity(hosting="actor")
class Sullen(Oracle):
    async def on_activate(self) -> None:
        raise LookupError("not today")


@entity(hosting="actor", max_idle_time=10.0)
class Grudging(Oracle):
    async def on_deactivate(self, reason: str) -> None:
        raise LookupError("not yet")


def events(address: str) -> list[str]:
    """What happened to one entity."""
    return [event for of, event in LOG if of == address]


def test_its_life_is_that_of_any_entity_and_counted_once(memory_cluster: MemoryCluster) -> None:
    """Born, activated, let go for idleness after its time, and born again; every count is exact."""
    counts = Counts(memory_cluster)
    seer = memory_cluster.entity(Seer, "s")
    assert [seer.ask.remote().result() for _ in range(3)] == [1, 2, 3]
    assert memory_cluster.status().entities["Seer"] == 1
    memory_cluster.clock.advance(9.9)
    assert memory_cluster.status().entities["Seer"] == 1
    memory_cluster.clock.advance(0.2)
    assert memory_cluster.status().entities["Seer"] == 0
    assert seer.ask.remote().result() == 1

    assert events("Seer/s") == ["born", "activated", "idle", "born", "activated"]
    counts.refresh()
    kind = {"entity_type": "Seer"}
    assert counts.of("cluster_entity_activations_total", **kind) == 2
    assert counts.of("cluster_entity_activation_seconds", **kind) == 2
    assert counts.of("cluster_entity_deactivations_total", **kind, reason="idle") == 1
    assert counts.of("cluster_entity_deactivations_total", **kind) == 1
    assert counts.of("cluster_messages_received_total", **kind) == 4
    assert counts.of("cluster_mailbox_wait_seconds", **kind) == 4
    assert counts.of("cluster_handler_duration_seconds", **kind, method="ask", outcome="ok") == 4
    assert counts.of("cluster_entities", **kind) == 1
    lifetime = memory_cluster.metrics().histogram("cluster_entity_lifetime_seconds", **kind)
    assert lifetime.count == 1 and lifetime.sum == pytest.approx(10.0)
    assert len(memory_cluster.status().runners) == 2
    counts.check_invariants("Seer")


def test_what_arrives_while_it_goes_meets_the_next_one(memory_cluster: MemoryCluster) -> None:
    """Asked to go after a message: what waits behind it is handled in order by a new process."""
    seer = memory_cluster.entity(Seer, "s")
    replies = [seer.ask.remote(), seer.rest.remote(), seer.ask.remote(), seer.ask.remote()]
    assert [reply.result() for reply in replies] == [1, None, 1, 2]
    assert events("Seer/s") == ["born", "activated", "explicit", "born", "activated"]


def test_it_can_ask_to_go_and_to_stay_between_messages(memory_cluster: MemoryCluster) -> None:
    """A call of its own to deactivate() ends it; keep_alive() is asked for when its idle time is over."""
    seer = memory_cluster.entity(Seer, "s")
    seer.rest_in.remote(3.0).result()
    memory_cluster.clock.advance(2.9)
    assert events("Seer/s") == ["born", "activated"]
    memory_cluster.clock.advance(0.2)
    assert events("Seer/s") == ["born", "activated", "explicit"]

    seer.stay.remote(25.0).result()
    memory_cluster.clock.advance(24.9)
    assert events("Seer/s")[-1] == "activated"
    memory_cluster.clock.advance(0.2)
    assert events("Seer/s")[-1] == "idle"


def test_its_timer_sends_it_messages(memory_cluster: MemoryCluster) -> None:
    """every() works from its process, until it is let go, and does not keep it alive."""
    seer = memory_cluster.entity(Seer, "s")
    seer.tick.remote(2.0).result()
    memory_cluster.clock.advance(6.5)
    assert seer.ask.remote().result() == 4
    memory_cluster.clock.advance(10.5)
    assert events("Seer/s") == ["born", "activated", "idle"]
    memory_cluster.clock.advance(10.0)
    assert events("Seer/s") == ["born", "activated", "idle"]
    with pytest.raises(HandlerError, match="seconds above 0"):
        seer.tick.remote(0.0).result()


def test_it_knows_who_it_is_and_who_asks(memory_cluster: MemoryCluster) -> None:
    """Address and epoch are those of its shard's owner; the sender is None for a message from outside."""
    address, sender, epoch = memory_cluster.entity(Seer, "s").who.remote().result()
    assert (address, sender) == ("Seer/s", "None")
    assert epoch[0] == 1 and epoch > (0, 0)


def test_errors_keep_their_cause_and_their_traceback(memory_cluster: MemoryCluster) -> None:
    """HandlerError as from a runner, not one wrapped in another; a reply that cannot be pickled says so."""
    seer = memory_cluster.entity(Seer, "s")
    with pytest.raises(HandlerError) as failed:
        seer.fail.remote().result()
    assert isinstance(failed.value.__cause__, LookupError)
    assert "in fail" in failed.value.traceback_text
    with pytest.raises(MalformedMessage, match="reply"):
        seer.give.remote().result()
    with pytest.raises(MalformedMessage):
        seer.ask.remote(1, 2, 3).result()  # type: ignore[call-arg]  # what does not bind never reaches its process


@pytest.mark.parametrize(("kind", "says"), [(Stillborn, "nothing to live on"), (Sullen, "not today")])
def test_what_keeps_it_from_coming_to_life_is_told(
    memory_cluster: MemoryCluster, kind: Any, says: str
) -> None:
    """Everybody who waits gets ActivationFailed with the cause; nothing is counted as activated, nothing stays."""
    counts = Counts(memory_cluster)
    replies = [memory_cluster.entity(kind, "s").ask.remote() for _ in range(3)]
    for reply in replies:
        with pytest.raises(ActivationFailed, match=says) as failed:
            reply.result()
        assert isinstance(failed.value.__cause__, LookupError)
    assert memory_cluster.status().entities[kind.__name__] == 0
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", entity_type=kind.__name__) == 0
    assert counts.of("cluster_entity_activation_seconds", entity_type=kind.__name__, outcome="error") >= 1
    assert counts.of("cluster_entity_deactivations_total", entity_type=kind.__name__) == 0


def test_a_hook_that_raises_counts_as_failed(memory_cluster: MemoryCluster, caplog: Any) -> None:
    """on_deactivate in its process raised: the reason is failed, as for any entity."""
    counts = Counts(memory_cluster)
    memory_cluster.entity(Grudging, "s").ask.remote().result()
    memory_cluster.clock.advance(11.0)
    counts.refresh()
    assert counts.of("cluster_entity_deactivations_total", entity_type="Grudging", reason="failed") == 1
    assert "not yet" in caplog.text


def test_a_process_that_died_is_lost_and_the_next_message_starts_another(
    memory_cluster: MemoryCluster,
) -> None:
    """What ran may have run; what waited goes on elsewhere; no hook runs in a dead process."""
    counts = Counts(memory_cluster)
    seer = memory_cluster.entity(Seer, "s")
    running, waiting = seer.ponder.remote(5.0), seer.ask.remote()
    memory_cluster.clock.advance(1.0)
    memory_cluster.kill_entity(seer)
    with pytest.raises(RunnerUnavailable) as lost:
        running.result()
    assert lost.value.may_have_run and str(lost.value.address) == "Seer/s" and lost.value.method == "ponder"
    assert waiting.result() == 1
    assert events("Seer/s") == ["born", "activated", "born", "activated"]

    memory_cluster.kill_entity("Seer/s")  # idle this time
    memory_cluster.clock.settle()
    assert memory_cluster.status().entities["Seer"] == 0
    assert seer.ask.remote().result() == 1
    counts.refresh()
    assert counts.of("cluster_entity_deactivations_total", entity_type="Seer", reason="lost") == 2
    assert counts.of("cluster_entity_lifetime_seconds", entity_type="Seer") == 2
    assert counts.of("cluster_entity_activations_total", entity_type="Seer") == 3
    assert counts.of("cluster_messages_received_total", entity_type="Seer") == 3
    counts.check_invariants("Seer")


def test_an_idempotent_message_goes_to_the_next_process(memory_cluster: MemoryCluster) -> None:
    """Before what waited behind it, under its own deadline; received once, and counted as sent again."""
    counts = Counts(memory_cluster)
    seer = memory_cluster.entity(Seer, "s")
    seer.ask.remote().result()
    looking, asking = seer.look.remote(5.0), seer.ask.remote()
    memory_cluster.clock.advance(1.0)
    memory_cluster.kill_entity(seer)
    memory_cluster.clock.advance(6.0)
    assert (looking.result(), asking.result()) == (0, 1)
    counts.refresh()
    kind = {"entity_type": "Seer"}
    assert counts.of("cluster_redeliveries_total", **kind, reason="RunnerUnavailable") == 1
    assert counts.of("cluster_messages_received_total", **kind) == 3
    assert counts.of("cluster_mailbox_wait_seconds", **kind) == 3
    counts.check_invariants("Seer")


def test_only_an_entity_with_a_process_of_its_own_can_be_killed_alone(memory_cluster: MemoryCluster) -> None:
    """Anything else is a mistake in the test, and told."""
    layman = memory_cluster.entity(Layman, "l")
    layman.ask.remote().result()
    for target in (layman, "Seer/nobody"):
        with pytest.raises(KeyError, match="in a process of its own"):
            memory_cluster.kill_entity(target)


def test_a_circle_through_processes_is_seen(memory_cluster: MemoryCluster) -> None:
    """The chain goes along into the process and out of it; a reentrant entity takes the message at once."""
    for kind, layman in ((Seer, Layman), (Echo, Layman)):
        one, two = memory_cluster.entity(kind, "one"), memory_cluster.entity(layman, "two")
        circle = one.consult.remote([two, one])
        if kind is Echo:
            assert circle.result() == 1
            continue
        with pytest.raises(HandlerError) as failed:
            circle.result()
        cause: BaseException | None = failed.value
        while isinstance(cause, HandlerError):
            cause = cause.__cause__
        assert isinstance(cause, CallCycle)


def test_a_cancelled_message_is_cancelled_in_its_process(memory_cluster: MemoryCluster) -> None:
    """The handler there gets CancelledError; the next message begins when it has ended."""
    seer = memory_cluster.entity(Seer, "s")
    pondering, asking = seer.ponder.remote(60.0), seer.ask.remote()
    memory_cluster.clock.advance(1.0)
    assert pondering.cancel()
    with pytest.raises(Cancelled):
        pondering.result()
    assert asking.result() == 1  # the cancelled one did not come to count


def test_concurrency_and_capacity_are_its_owners(memory_cluster: MemoryCluster) -> None:
    """So many at a time, in the order sent; so many waiting, and one more is refused."""
    panel = memory_cluster.entity(Panel, "p")
    replies = [panel.ponder.remote(1.0) for _ in range(6)]
    memory_cluster.clock.advance(1.1)
    assert [reply.done() for reply in replies] == [True] * 3 + [False] * 3
    memory_cluster.clock.advance(1.0)
    values = [reply.result() for reply in replies]
    assert [sorted(values[:3]), sorted(values[3:])] == [[1, 2, 3], [4, 5, 6]]

    narrow = memory_cluster.entity(Narrow, "n")
    narrow.ask.remote().result()
    replies = [narrow.ponder.remote(1.0) for _ in range(4)]
    memory_cluster.clock.advance(5.0)
    assert [getattr(reply.exception(), "reason", None) for reply in replies] == [None] * 3 + ["MailboxFull"]


def test_a_killed_runner_takes_them_along(memory_cluster: MemoryCluster) -> None:
    """No process outlives its owner, and the next owner starts its own."""
    seer = memory_cluster.entity(Seer, "s")
    pondering = seer.ponder.remote(5.0)
    memory_cluster.clock.advance(1.0)
    owner = next(runner for runner in memory_cluster.status().runners if runner.entities)
    memory_cluster.kill(owner.id)
    with pytest.raises(RunnerUnavailable):
        pondering.result()
    asking = seer.ask.remote()
    memory_cluster.clock.advance(5.0)
    assert asking.result() == 1
    assert seer.ask.remote().result() == 2  # had the first one gone on, it would have logged and counted
    assert events("Seer/s") == ["born", "activated", "born", "activated"]


def test_a_process_sends_nothing_once_its_owners_lease_is_over(memory_cluster: MemoryCluster) -> None:
    """Its owner stands still: it lives on what it was lent, then stands still too, and goes on with its owner."""
    counts = Counts(memory_cluster)
    seer, layman = memory_cluster.entity(Seer, "s"), memory_cluster.entity(Layman, "l")
    seer.ask.remote().result()
    owner = next(runner for runner in memory_cluster.status().runners if runner.entities)
    layman.ask.remote().result()
    consulting = seer.consult_after.remote(4.0, layman)
    memory_cluster.clock.advance(0.5)
    memory_cluster.pause(owner.id)
    memory_cluster.clock.advance(5.0)  # another runner owns the shard by now
    counts.refresh()
    before = counts.of("cluster_messages_received_total", entity_type="Layman")
    memory_cluster.resume(owner.id)
    memory_cluster.clock.advance(5.0)
    counts.refresh()

    assert before == 1
    assert counts.of("cluster_messages_received_total", entity_type="Layman") == 1
    assert consulting.done() and isinstance(consulting.exception(), RunnerUnavailable)
    assert counts.of("cluster_entity_deactivations_total", entity_type="Seer", reason="lost") == 1
    assert seer.ask.remote().result() == 1


def test_a_drain_moves_them(memory_cluster: MemoryCluster) -> None:
    """Those of the drained runner are let go in their processes with reason handoff, and begin anew elsewhere."""
    seers = [memory_cluster.entity(Seer, str(number)) for number in range(10)]
    assert [seer.ask.remote().result() for seer in seers] == [1] * 10
    drained = max(memory_cluster.status().runners, key=lambda runner: runner.entities)
    memory_cluster.drain(drained.id)

    handed_off = [address for address, event in LOG if event == "handoff"]
    assert len(handed_off) == drained.entities > 0
    values = [seer.ask.remote().result() for seer in seers]
    assert sorted(values) == [1] * drained.entities + [2] * (10 - drained.entities)
    for address in handed_off:
        assert events(address) == ["born", "activated", "handoff", "born", "activated"]
    deactivations = "cluster_entity_deactivations_total"
    metrics = memory_cluster.metrics()
    assert metrics.value(deactivations, entity_type="Seer", reason="handoff") == drained.entities
    assert metrics.value(deactivations, entity_type="Seer") == drained.entities


def test_a_shutdown_lets_them_go(memory_cluster: MemoryCluster) -> None:
    """With the reason, in their own processes."""
    memory_cluster.entity(Seer, "s").ask.remote().result()
    memory_cluster.close()
    assert events("Seer/s") == ["born", "activated", "shutdown"]


def test_their_states_can_be_read(memory_cluster: MemoryCluster) -> None:
    """Each process is asked for the public attributes of its entity."""
    for number in range(3):
        memory_cluster.entity(Seer, str(number)).ask.remote().result()
    assert dict(memory_cluster.states(Seer)) == {str(number): {"asked": 1} for number in range(3)}


def test_a_call_that_does_not_leave_holds_up_nobody_behind_it(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process does not wait for it: its message ends with the failure, and the next ones are handled."""
    seer = memory_cluster.entity(Seer, "a")
    assert seer.ask.remote().result() == 1
    genuine = memory_annex._MemoryLink.call

    async def full(link: Any, call: Call) -> Reply:
        monkeypatch.setattr(memory_annex._MemoryLink, "call", genuine)
        raise AnsweredThere(Unknown("the object store is full"))

    monkeypatch.setattr(memory_annex._MemoryLink, "call", full)
    with pytest.raises(Unknown, match="object store"):
        seer.ask.remote().result()
    assert [seer.ask.remote().result(timeout_s=5) for _ in range(2)] == [2, 3]


def test_a_cancellation_that_overtakes_its_call_is_kept_for_it(memory_cluster: MemoryCluster) -> None:
    """The message never runs, and those behind it are not held up."""
    seer = memory_cluster.entity(Seer, "a")
    assert seer.ask.remote().result() == 1
    (runner,) = [r for r in memory_cluster._memory._runners.values() if r.annexes.processes]
    (process,) = runner.annexes.processes.values()
    memory_cluster._loop.call_soon_threadsafe(process.entity.cancel, 1)
    with pytest.raises(Cancelled) as raised:
        seer.ask.remote().result(timeout_s=5)
    assert not raised.value.may_have_run
    assert seer.ask.remote().result(timeout_s=5) == 2


def versions(hosting: Literal["shard", "actor"], number: int) -> type[Any]:
    """One version of a type, hosted so."""

    @entity(name="hosting.Moved", hosting=hosting, max_idle_time=None)
    class Moved(Entity):
        def __init__(self) -> None:
            self.version = number

        @message
        def ask(self) -> int:
            return self.version

        @message
        async def ponder(self, seconds: float) -> int:
            await asyncio.sleep(seconds)
            return self.version

    return Moved


@pytest.mark.parametrize(("first", "second"), [("actor", "shard"), ("shard", "actor")])
def test_states_are_read_where_each_entity_lives(
    memory_cluster: MemoryCluster, first: Literal["shard", "actor"], second: Literal["shard", "actor"]
) -> None:
    """Also of those that run replaced code, which was hosted the other way."""
    old, new = versions(first, 1), versions(second, 2)
    assert memory_cluster.entity(old, "a").ask.remote().result() == 1
    memory_cluster.register(new, replace=True)
    assert memory_cluster.entity(new, "b").ask.remote().result() == 2
    assert dict(memory_cluster.states(new)) == {"a": {"version": 1}, "b": {"version": 2}}


def test_a_shard_moves_with_what_waits_for_replaced_code(memory_cluster: MemoryCluster) -> None:
    """The mailbox is the older type's; its messages go along."""
    old, new = versions("shard", 1), versions("shard", 2)
    busy = memory_cluster.entity(old, "a").ponder.remote(1.0)
    waiting = memory_cluster.entity(old, "a").ask.remote()
    memory_cluster.clock.settle()
    memory_cluster.register(new, replace=True)
    (home,) = [runner.id for runner in memory_cluster.status().runners if runner.entities]
    memory_cluster.drain(home, timeout_s=30)
    assert (busy.result(timeout_s=5), waiting.result(timeout_s=5)) == (1, 2)
