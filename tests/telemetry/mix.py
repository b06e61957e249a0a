"""A script in which every metric and every error that has a cause by now gets it, and a driver that keeps count."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import ray
from opentelemetry import metrics as otel

from cluster_app import Cluster, ClusterError, Entity, entity, message
from observe import telemetry
from observe.metrics import instrument, track_cluster
from tests.ray.seen import seen

__all__ = ["HOSTED", "Mix"]

HOSTED = 3
_ANSWER_S = 30.0
_SLOW_S = 0.15  # longer than a handler may hold the loop without being counted as slow


def _worked(steps: int = 1, **attributes: str) -> None:
    """Count with the user's own instrument, as an entity's code would."""
    otel.get_meter("desk").create_counter("desk_work", unit="{step}").add(steps, attributes)


@entity(max_idle_time=None)
class Desk(Entity):
    @message
    def work(self) -> None:
        _worked(hosting="shard")

    @message
    def fail(self) -> None:
        raise LookupError("no such form")

    @message
    def dawdle(self) -> None:
        time.sleep(_SLOW_S)  # a handler that holds its runner's loop, which is what is counted

    @message
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @message
    async def ask(self, other: str) -> None:
        await self.entity(Desk, other).work.remote()

    @message
    async def ask_itself(self) -> str:
        try:
            await self.entity(Desk, self.address.id).work.remote()
        except ClusterError as error:
            return error.reason
        return ""

    @message(idempotent=True)
    async def outlive(self, process: int) -> None:
        if os.getpid() == process:
            await asyncio.Event().wait()


@entity(max_idle_time=None)
class Bench(Entity):
    @message
    async def wait(self) -> None:
        await asyncio.Event().wait()


@entity(max_idle_time=None)
class Stool(Entity):
    @message
    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    def sit(self) -> None: ...


@entity(max_idle_time=None, mailbox_capacity=1)
class NarrowDesk(Entity):
    @message
    async def wait(self) -> None:
        await asyncio.Event().wait()


@entity(max_idle_time=0.2)
class Visitor(Entity):
    @message
    def look(self) -> None: ...


@entity(max_idle_time=None)
class Stillborn(Entity):
    def __init__(self) -> None:
        raise RuntimeError("nothing to live on")

    @message
    def look(self) -> None: ...


@entity(hosting="actor", max_idle_time=1.0)
class Guest(Entity):
    @message
    async def stay(self) -> None:
        _worked(2, hosting="actor")
        await self.entity(Desk, "porter").work.remote()


@entity(hosting="actor", num_gpus=8)
class Giant(Entity):
    @message
    def look(self) -> None: ...


@entity(max_idle_time=None)
class Porter(Entity):
    @message
    def carry(self) -> None: ...


@ray.remote(num_cpus=0)
class Plain:
    def answer(self, right: bool) -> int:
        if not right:
            raise LookupError
        return 1


class Mix:
    """The script, on a cluster with one runner.

    :ivar sent: messages by (entity type, operation), as the driver and the entities it asked have sent them.
    :ivar errors: errors by (entity type, type, operation), as the driver saw them and entities told.
    :ivar worked: what entities have counted with an instrument of their own, by hosting.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.sent: Tally[tuple[str, str]] = Tally()
        self.errors: Tally[tuple[str, str, str]] = Tally()
        self.worked: Tally[str] = Tally()
        self._cluster = cluster

    def run(self) -> None:
        """All of it; nothing is in flight when it returns."""
        telemetry.install()
        self._ordinary()
        self._refused()
        self._hosted()
        self._others()
        self._killed()
        self._drained()
        otel.get_meter("driver").create_histogram("driver_runs", unit="s").record(1.5)

    # -- the parts

    def _ordinary(self) -> None:
        for number in range(10):
            desk = self._cluster.entity(Desk, f"desk-{number}")
            for _ in range(20):
                self._expect(Desk, desk.work.remote())
            self.worked["shard"] += 20
        desk = self._cluster.entity(Desk, "desk-0")
        self._expect(Desk, desk.dawdle.remote())
        self._expect(Desk, desk.ask.remote("desk-1"))
        self.sent["Desk", "send"] += 1
        self.worked["shard"] += 1
        for number in range(5):
            self._expect(Visitor, self._cluster.entity(Visitor, f"v{number}").look.remote())
        seen(self._cluster, lambda status: not status.entities.get("Visitor"), within_s=20)
        self._expect(Visitor, self._cluster.entity(Visitor, "v").look.remote())
        self._cluster.deactivate(self._cluster.entity(Visitor, "v"))

    def _refused(self) -> None:
        desk, any_desk = self._cluster.entity(Desk, "desk-2"), self._untyped("desk-2")
        self._expect(Desk, desk.fail.remote(), "HandlerError")
        self._expect(Desk, any_desk.work.remote(1, 2, 3), "MalformedMessage")
        bench = self._cluster.entity(Bench, "x")
        self._expect(Bench, bench.wait.options(timeout_s=0.2).remote(), "Timeout")
        waiting = self._cluster.entity(Bench, "y").wait.remote()
        waiting.cancel()
        self._expect(Bench, waiting, "Cancelled")
        assert desk.ask_itself.remote().result(timeout_s=_ANSWER_S) == "CallCycle"
        self.sent["Desk", "send"] += 2
        self.errors["Desk", "CallCycle", "send"] += 1
        narrow = self._cluster.entity(NarrowDesk, "x")
        replies = [narrow.wait.options(timeout_s=1.0).remote() for _ in range(6)]
        for reply in replies:
            reason = self._expect(NarrowDesk, reply, "MailboxFull", "Timeout")
            assert reason in ("MailboxFull", "Timeout")
        assert self.errors["NarrowDesk", "MailboxFull", "send"]
        self._expect(Stillborn, self._cluster.entity(Stillborn, "x").look.remote(), "ActivationFailed")
        giant = self._cluster.entity(Giant, "x").look.options(timeout_s=2.0).remote()
        self._expect(Giant, giant, "RunnerNotRegistered")

    def _hosted(self) -> None:
        for number in range(HOSTED):
            self._expect(Guest, self._cluster.entity(Guest, f"guest-{number}").stay.remote())
            self.sent["Desk", "send"] += 1
            self.worked["shard"] += 1
            self.worked["actor"] += 2
        seen(self._cluster, lambda status: not status.entities.get("Guest"), within_s=30)

    def _others(self) -> None:
        delivered = self._cluster.broadcast(Desk, "work").result(timeout_s=_ANSWER_S)
        assert delivered.failed == 0
        self.sent["Desk", "broadcast"] += delivered.delivered
        self.worked["shard"] += delivered.delivered
        porter = self._cluster.singleton(Porter)
        self._expect(Porter, porter.carry.remote())
        with track_cluster(operation="receive", entity_type="Suitcase"):
            pass
        try:
            with track_cluster(operation="receive", entity_type="Suitcase"):
                raise RuntimeError("lost")
        except RuntimeError:
            self.errors["Suitcase", "Unknown", "receive"] += 1
        plain: Any = instrument(Plain.remote(), "Plain")  # type: ignore[attr-defined]
        assert ray.get([plain.answer.remote(True) for _ in range(4)]) == [1] * 4
        self._raises(lambda: ray.get(plain.answer.remote(False)))
        self.sent["Plain", "send"] += 5
        self.errors["Plain", "HandlerError", "send"] += 1

    def _killed(self) -> None:
        """The runner is killed: one message is lost with it, one is sent again, one finds nobody in time."""
        (runner,) = self._cluster.status().runners
        lost = self._cluster.entity(Desk, "desk-3").wait.remote()
        resent = self._cluster.entity(Desk, "desk-4").outlive.remote(runner.pid)
        seen(self._cluster, lambda status: status.entities.get("Desk", 0) >= 10, within_s=20)
        self._cluster.metrics()  # what it has counted until now is not lost with it
        os.kill(runner.pid, signal.SIGKILL)
        self._expect(Desk, lost, "RunnerUnavailable")
        late = self._cluster.entity(Desk, "desk-5").work.options(timeout_s=0.05).remote()
        self._expect(Desk, late, "RunnerNotRegistered")
        self._expect(Desk, resent)
        self._cluster.entity(Desk, "desk-5").work.remote().result(timeout_s=_ANSWER_S)
        self.sent["Desk", "send"] += 1
        self.worked["shard"] += 1

    def _drained(self) -> None:
        """The runner is drained: what waits of a broadcast behind a handler is not for the next one."""
        stools = [self._cluster.entity(Stool, f"s{number}") for number in range(3)]
        held = [stool.hold.remote(2.0) for stool in stools]
        broadcast = self._cluster.broadcast(Stool, "sit")
        deadline = time.monotonic() + _ANSWER_S
        while self._cluster.metrics().value("cluster_mailbox_depth", entity_type="Stool") < len(stools):
            assert time.monotonic() < deadline, "the broadcast does not wait in the mailboxes"
        self._cluster.drain(self._cluster.status().runners[0].id)
        for reply in held:
            self._expect(Stool, reply)
        result = broadcast.result(timeout_s=_ANSWER_S)
        assert result.errors == {"EntityNotAssignedToRunner": len(stools)}, result
        self.sent["Stool", "broadcast"] += result.delivered + result.failed
        self.errors["Stool", "EntityNotAssignedToRunner", "broadcast"] += result.failed

    # -- keeping count

    def _untyped(self, entity_id: str) -> Any:
        return self._cluster.entity(Desk, entity_id)

    def _expect(self, kind: type[Entity], reply: Any, *reasons: str) -> str:
        """Wait for a reply that was sent; it succeeds if no reason is named. The reason that it ended with."""
        self.sent[kind.__name__, "send"] += 1
        try:
            reply.result(timeout_s=_ANSWER_S)
        except ClusterError as error:
            assert error.reason in reasons, error
            self.errors[kind.__name__, error.reason, "send"] += 1
            return error.reason
        assert not reasons or reasons[-1] == "Timeout", f"it was to end with {reasons}"
        return ""

    @staticmethod
    def _raises(call: Callable[[], object]) -> None:
        try:
            call()
        except LookupError:
            return
        raise AssertionError("nothing was raised")
