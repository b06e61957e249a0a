"""Random schedules: what is done to a cluster in memory, step by step, and what its record shows in the end.

Decides which steps there are and what each means for the cluster as it is then: a step that has no meaning just now
does nothing. A schedule is a list of steps, plain tuples, and plays the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cluster_app import ClusterConfig
from cluster_app.kv import KeyValueUnavailable
from cluster_app.leadership import NotLeading
from cluster_app.memory_runner import MemoryRunner
from cluster_app.testing import MemoryCluster
from entities.activation import Phase
from tests.chaos.checker import Violation, check
from tests.chaos.history import Event, History
from tests.chaos.leases import record_leases
from tests.chaos.memory_entities import TYPES
from tests.chaos.memory_record import DRIVER, Record, being_current, recording_ends
from tests.chaos.weather import Mishap, Weather

__all__ = ["STEPS", "Step", "play", "violations"]

Step = tuple[Any, ...]

CONFIG = ClusterConfig(
    lease_s=3.0, message_timeout_s=8.0, shards_per_group=6, idle_node_s=None, lane_silence_s=2.0
)
_IDS = 3  # addresses of each type
_MOST_RUNNERS = 5
_PROBE_S = 7.0  # within which everything is served again once all faults are over

_SENDS: list[Step] = [
    *(
        ("send", kind, number, "hit", count)
        for kind in range(3)
        for number in range(_IDS)
        for count in (1, 4)
    ),
    *(("send", kind, number, "hit_safely", 2) for kind in range(3) for number in range(_IDS)),
    *(("send", kind, 0, method, 2) for kind in range(3) for method in ("hold", "hold_safely")),
    *(("send", kind, 1, "pass_on", 1) for kind in range(3)),
    *(("send", kind, 2, "leave", 1) for kind in range(3)),
    *(("send", kind, 1, "hit in time", 3) for kind in range(3)),
    *(("send and cancel", kind, number) for kind in range(3) for number in range(_IDS)),
    *(("broadcast", kind, method) for kind in range(3) for method in ("hit", "hit_safely", "hold")),
    *(("broadcast", kind, method) for kind in range(3) for method in ("hold_safely", "hold in time")),
]
_TIMES: list[Step] = [("advance", seconds) for seconds in (0.01, 0.01, 0.06, 0.06, 0.3, 0.3, 1.0, 1.0, 3.5)]
_MISHAPS: tuple[Mishap, ...] = (
    "request lost",
    "answer lost",
    "request late",
    "answer late",
    "repeated",
    "repeated late",
)
_FAULTS: list[Step] = [
    *(("kill", number, proven) for number in range(3) for proven in (True, False)),
    *(("pause", number) for number in range(3)),
    *(("pause", number) for number in range(3)),
    ("resume",),
    ("resume",),
    ("resume",),
    ("kill entity",),
    ("kill coordinator",),
    ("stop coordinator",),
    ("stop coordinator",),
    ("succeed",),
    ("succeed",),
    ("wake coordinators",),
    ("wake coordinators",),
    ("lose store",),
    ("find store",),
    ("join", True),
    ("join", False),
    ("drain node", 0),
    ("drain node", 1),
    ("undrain",),
    ("drain runner", 0),
    ("drain runner", 1),
    ("cancel",),
    *(("cut off", seconds) for seconds in (0.5, 3.0, 3.0)),
    *(("mishap", mishap, count) for mishap in _MISHAPS for count in (1, 3)),
]
# About as many faults as messages, and time for them to have their effects.
STEPS: list[Step] = [*_SENDS, *_TIMES * 3, *_FAULTS]


class _Play:
    """A schedule being played. Everything happens on the cluster's loop."""

    def __init__(self, cluster: MemoryCluster, record: Record) -> None:
        self._cluster = cluster
        self._record = record
        self._memory = memory = cluster._memory
        self._loop = cluster._loop
        self._weather = Weather(self._loop, record, memory.connect)
        memory.connect = self._weather.connect  # type: ignore[method-assign]  # all senders find their ways here

    # -- the steps

    async def step(self, step: Step) -> None:
        """Do one step, and what follows from it at once."""
        name, *parameters = step
        await getattr(self, "_" + name.replace(" ", "_"))(*parameters)
        await self._loop.quiet()

    def _fault(self, kind: str, target: str) -> None:
        self._record.note("fault", DRIVER, kind=kind, target=target, in_flight=len(self._record.open))

    def _runner(self, number: int) -> MemoryRunner:
        runners = self._memory._runners
        return runners[sorted(runners)[number % len(runners)]]

    async def _send(self, kind: int, number: int, method: str, count: int) -> None:
        reference = self._cluster.entity(TYPES[kind], str(number))
        for _ in range(count):
            if method == "hit in time":
                self._record.send(DRIVER, reference, "hit", timeout_s=0.5)
            elif method.startswith("hold"):
                self._record.send(DRIVER, reference, method, 0.4)
            elif method == "pass_on":
                self._record.send(DRIVER, reference, method, str(number + 1), "hit")
            else:
                self._record.send(DRIVER, reference, method)

    async def _send_and_cancel(self, kind: int, number: int) -> None:
        """One that waits behind another is not wanted any more as soon as it has left; one behind it is."""
        reference = self._cluster.entity(TYPES[kind], str(number))
        self._record.send(DRIVER, reference, "hold_safely", 0.02)
        unwanted = self._record.send(DRIVER, reference, "hit_safely")
        self._record.send(DRIVER, reference, "hit_safely")
        await self._loop.quiet()
        unwanted.cancel()

    async def _broadcast(self, kind: int, method: str) -> None:
        send = self._cluster.broadcast
        if method == "hold in time":
            method, send = "hold", send.options(timeout_s=0.2)
        args = (0.4,) if method.startswith("hold") else ()
        self._record.broadcast(DRIVER, send, TYPES[kind], method, *args)

    async def _advance(self, seconds: float) -> None:
        await self._loop.advance(seconds)

    async def _kill(self, number: int, proven: bool) -> None:
        memory = self._runner(number)
        runner_id = memory.runner.runner_id
        self._fault("kill" if proven else "kill unproven", runner_id)
        self._record.ended(runner_id)
        await self._memory.kill(runner_id, proven)

    async def _pause(self, number: int) -> None:
        memory = self._runner(number)
        self._fault("pause", memory.runner.runner_id)
        memory.pause()

    async def _resume(self) -> None:
        for memory in self._memory._runners.values():
            if memory.runner.paused:
                memory.resume()

    async def _kill_entity(self) -> None:
        for memory in self._memory._runners.values():
            for address in memory.annexes.processes:
                self._fault("kill entity", address)
                memory.annexes.kill(address)
                return

    async def _kill_coordinator(self) -> None:
        if self._memory._kv.available:
            self._fault("kill coordinator", "coordinator")
            await self._memory.kill_coordinator()

    async def _stop_coordinator(self) -> None:
        self._fault("stop coordinator", "coordinator")
        self._memory.stop_coordinator()

    async def _succeed(self) -> None:
        if self._memory._kv.available:
            self._fault("second coordinator", "coordinator")
            self._memory.succeed()

    async def _wake_coordinators(self) -> None:
        self._memory.wake_coordinators()

    async def _lose_store(self) -> None:
        self._fault("lose store", "store")
        self._memory._kv.available = False

    async def _find_store(self) -> None:
        self._memory._kv.available = True

    async def _join(self, new_node: bool) -> None:
        if len(self._memory._runners) < _MOST_RUNNERS:
            self._fault("join", "node")
            with suppress(ValueError):
                await self._memory.join(None if new_node else "node-1")

    async def _drain_node(self, number: int) -> None:
        service = self._memory._service[0]
        node_id = sorted(self._memory._wanted)[number]
        left = [
            memory
            for memory in self._memory._runners.values()
            if memory.node_id != node_id and memory.node_id not in service.drained
        ]
        if left and service.awake:
            self._fault("drain node", node_id)
            with suppress(NotLeading, KeyValueUnavailable):
                service.drain(node_id)

    async def _undrain(self) -> None:
        service = self._memory._service[0]
        for node_id in sorted(service.drained):
            with suppress(NotLeading, KeyValueUnavailable):
                await self._memory._undrain(node_id)

    async def _drain_runner(self, number: int) -> None:
        service = self._memory._service[0]
        memory = self._runner(number)
        others = [
            m for m in self._memory._runners.values() if m is not memory and not m.runner.tenure.draining
        ]
        if others and service.awake:
            self._fault("drain runner", memory.runner.runner_id)
            with suppress(NotLeading, KeyValueUnavailable, KeyError):
                service.drain_runner(memory.runner.runner_id)

    async def _cancel(self) -> None:
        for reply in list(self._record.open.values())[:1]:
            self._fault("cancel", "message")
            reply.cancel()

    async def _mishap(self, mishap: Mishap, count: int) -> None:
        self._fault(mishap, "exchange")
        self._weather.coming.extend(mishap for _ in range(count))

    async def _cut_off(self, seconds: float) -> None:
        self._fault("cut off", "exchange")
        self._weather.cut_off = True
        await self._loop.advance(seconds)
        self._weather.cut_off = False

    # -- the end

    async def heal(self) -> None:
        """End all faults, and let every message have its end."""
        self._weather.coming.clear()
        await self._find_store()
        await self._resume()
        if not self._memory._service[0].awake and self._memory._stopped:
            self._memory.succeed()
        await self._wake_coordinators()
        await self._undrain()
        waited = 0.0
        while self._record.open and waited < CONFIG.message_timeout_s + 5.0:
            await self._loop.advance(0.5)
            waited += 0.5
        await self._loop.advance(
            CONFIG.lease_s + 1.0
        )  # what was with a runner that nobody saw end moves then

    async def probe(self) -> None:
        """Every entity answers again."""
        replies = [
            self._record.send(
                DRIVER, self._cluster.entity(kind, str(number)), "hit_safely", timeout_s=_PROBE_S
            )
            for kind in TYPES
            for number in range(_IDS)
        ]
        waited = 0.0
        while self._record.open and waited < _PROBE_S + 1.0:
            await self._loop.advance(0.5)
            waited += 0.5
        self.unserved = [reply for reply in replies if reply.exception() is not None]

    async def close(self) -> None:
        """Write down what was counted, when nobody is just going, and the end."""
        while any(
            activation.phase is Phase.STOPPING
            for memory in self._memory._runners.values()
            for activation in memory.runner.host.activations()
        ):
            await self._loop.advance(0.06)
        for point in await self._memory._metrics():
            self._record.note("counts", DRIVER, name=point.name, labels=dict(point.labels), value=point.value)
        self._record.note("end", DRIVER)
        self._record.over = True


def play(steps: Sequence[Step]) -> tuple[list[Event], list[str]]:
    """Play a schedule; returns its record, and what was not served again when all was over."""
    cluster = MemoryCluster(runners=1, nodes=2, config=CONFIG)
    record = Record(cluster)

    async def played() -> list[str]:
        acted = _Play(cluster, record)
        for step in steps:
            await acted.step(step)
        await acted.heal()
        await acted.probe()
        await acted.close()
        return [f"not served again: {reply!r}: {reply.exception()!r}" for reply in acted.unserved]

    with being_current(record), record_leases(record.lease), recording_ends(record), cluster:
        for memory in cluster._memory._runners.values():
            record.lease(memory.runner)
        unserved = cluster._loop.call(played())
        events = list(record.events)  # the record has its end; the cluster's is not part of it
    return events, unserved


def violations(steps: Sequence[Step]) -> list[Violation]:
    """Play a schedule, and return every violation that its record shows."""
    events, unserved = play(steps)
    return [*check(History(events)), *(Violation("liveness", what, []) for what in unserved)]
