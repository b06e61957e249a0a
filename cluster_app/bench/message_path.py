"""Where the microseconds of a message go: one sender and one runner in one thread, with no transport between.

It decides what belongs to which side, and to which file. ``python -m cluster_app.bench.message_path [MESSAGES]`` prints
the profile in `docs/performance.md`. CPU seconds, so that other work on the machine matters little.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from cluster_app.bench.pipeline import check_value
from cluster_app.client import Client
from cluster_app.config import ClusterConfig
from cluster_app.envelope import Codec
from cluster_app.exchange import Answer, Parcel, Request, Told
from cluster_app.grants import Epoch, Lease
from cluster_app.neighbourhood import Neighbourhood
from cluster_app.routes import Routes
from cluster_app.runner import Runner
from cluster_app.shard import shards_of
from entities.catalog import Counter
from entities.declaration import EntityDefinition, define
from entities.response import EntityResponse
from observe.recorder import Recorder

__all__ = ["Spent", "Wire", "main", "measure"]

ENTITIES = 1_000
IN_FLIGHT = 1_000
_OWN = ("cluster_app", "entities", "observe")
_FLOORS = Path(__file__).parents[2]


class Spent(NamedTuple):
    """CPU per message, in microseconds, and how the time of a profiled run is spread over files, in shares of 1."""

    sender_us: float
    runner_us: float
    shares: dict[str, float]


class Wire:
    """Directory and transport of a sender whose only runner stands beside it; exchanges wait until `carry`."""

    eager = False

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.runner_s = 0.0
        self._waiting: list[tuple[Request, Told]] = []

    def routes(self, known_version: int, told: Any) -> None:
        """All shards are that runner's."""
        owners = {shard: ("runner", Epoch(1, 1)) for shard in shards_of("default", 300)}
        asyncio.get_running_loop().call_soon(told, Routes(1, owners))

    def register(self, definition: EntityDefinition, replace: bool, told: Any) -> None:
        """Nothing has to travel."""
        asyncio.get_running_loop().call_soon(told, None)

    keep: Any = None

    def connect(self, runner_id: str) -> Wire:
        """The way to the runner."""
        return self

    def exchange(self, request: Request, told: Told) -> None:
        """Begin an exchange."""
        self._waiting.append((request, told))

    async def carry(self) -> None:
        """Let the exchanges that bring messages reach the runner, and their answers the sender."""
        waiting, self._waiting = self._waiting, []
        await asyncio.sleep(0)
        for request, told in waiting:
            if request.parcel is None and request.wait_s:
                self._waiting.append((request, told))
                continue
            began_s = time.thread_time()
            answer: Answer = await self.runner.exchange(request)
            self.runner_s += time.thread_time() - began_s
            told(answer._replace(parcels=tuple(Parcel(*parcel) for parcel in answer.parcels)))


async def measure(messages: int) -> Spent:
    """Send so many messages twice, and check each value: once timed, once profiled. Raises WrongValue."""
    config = ClusterConfig()
    definition = define(Counter)

    async def found(name: str) -> EntityDefinition:
        return definition

    runner = Runner(
        "runner",
        "node",
        0,
        config,
        asyncio.get_running_loop(),
        time.monotonic,
        Recorder(),
        Codec(),
        Neighbourhood(),
        found,
    )
    grants = dict.fromkeys(shards_of("default", 300), Epoch(1, 1))
    lease = Lease(1, 1e9, 1, grants, frozenset(), granted=Epoch(1, 1), since=Epoch(1, 0))
    while runner.apply(lease, time.monotonic()):  # the first only tells it the term
        pass
    wire = Wire(runner)
    client = Client("sender", config, wire, wire, Recorder(), Codec(), time.monotonic, lambda when: None)
    sends = [client.reference(Counter, f"counter-{n}").increment.remote for n in range(ENTITIES)]

    sent = checked = 0

    async def run(count: int) -> None:
        nonlocal sent
        pending: list[EntityResponse[int]] = []
        for number in range(sent, sent + count):
            if len(pending) >= IN_FLIGHT:
                half, pending = pending[: IN_FLIGHT // 2], pending[IN_FLIGHT // 2 :]
                await settle(half)
            pending.append(sends[number % ENTITIES](1))
        await settle(pending)
        sent += count

    async def settle(replies: list[EntityResponse[int]]) -> None:
        nonlocal checked
        client.hurry()
        while not all([reply._settled for reply in replies]):
            await wire.carry()
        for number, reply in enumerate(replies, start=checked):
            check_value(number, reply.result(), number // ENTITIES + 1)
        checked += len(replies)

    await run(20 * ENTITIES)
    wire.runner_s, began_s = 0.0, time.thread_time()
    await run(messages)
    client.flush()
    whole_s, runner_s = time.thread_time() - began_s, wire.runner_s
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    await run(messages)
    profile.disable()
    return Spent(
        (whole_s - runner_s) / messages * 1e6, runner_s / messages * 1e6, _by_file(pstats.Stats(profile))
    )


def _by_file(stats: pstats.Stats) -> dict[str, float]:
    """Each file's own time; what is not ours counts for whoever called it."""
    own: defaultdict[str, float] = defaultdict(float)
    for (file, _, _), (_, _, own_s, _, callers) in stats.stats.items():  # type: ignore[attr-defined]  # no types
        name = _name(file)
        if name is not None:
            own[name] += own_s
            continue
        for (caller, _, _), (_, _, for_caller_s, _) in callers.items():
            own[_name(caller) or "what nobody of ours called"] += for_caller_s
    whole = sum(own.values())
    return {name: spent / whole for name, spent in sorted(own.items(), key=lambda item: -item[1])}


def _name(file: str) -> str | None:
    path = Path(file)
    inside = path.is_relative_to(_FLOORS) and path.relative_to(_FLOORS).parts[0] in _OWN
    return str(path.relative_to(_FLOORS)) if inside else None


def main(arguments: list[str]) -> None:
    """Print both sides' CPU per message, and each file's share of the two."""
    spent = asyncio.run(measure(int(arguments[0]) if arguments else 200_000))
    whole = spent.sender_us + spent.runner_us
    print(f"sender {spent.sender_us:.2f} us, runner {spent.runner_us:.2f} us a message")
    for name, share in spent.shares.items():
        if share >= 0.01:
            print(f"{share * whole:6.2f} us  {share:4.0%}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
