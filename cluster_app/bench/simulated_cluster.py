"""A coordinator of very many runners and shards, and no process but this one. Prints one JSON line.

It decides that what is simulated is only who speaks: the coordinator and all its parts are those that every cluster
has, and each renewal is what a runner would send. Starts, losses and joins happen at once on a clock that stands still;
to be at rest, time is stepped. What counts is the CPU time of this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from cluster_app.config import ClusterConfig
from cluster_app.coordinator import Coordinator, CoordinatorConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.grants import Epoch, Renewal
from cluster_app.kv import MemoryKeyValue
from cluster_app.leadership import Leadership
from cluster_app.routes import Routes, read_routes, write_routes
from cluster_app.shard import ShardId
from cluster_app.stepped_loop import SteppedLoop
from cluster_app.tenure import Tenure
from observe.recorder import Recorder

__all__ = ["main", "measure"]

_SETTLE_S = 10  # until all shards are granted
_FAR_S = 1e9  # leadership that does not end, and a wait for runners that only their number ends


class _Cluster:
    def __init__(self, runners: int, shards: int) -> None:
        leadership = Leadership(MemoryKeyValue(), "simulated", _FAR_S, "coordinator")
        leadership.claim(0.0)
        leadership.confirm(0.0)
        config = CoordinatorConfig(
            shards_per_group=shards, expected_runners=runners, first_grant_wait_s=_FAR_S
        )
        self.coordinator = Coordinator(config, leadership, {}, 0.0)
        self.coordinator.add_group("default", 0.0)
        self.versions: dict[str, int] = {}
        self.longest_s = 0.0

    def renew(self, runner_id: str) -> bool:
        """One renewal; whether its answer brought grants."""
        version = self.versions.get(runner_id)
        holding: dict[ShardId, Epoch] | None = {} if version is None else None
        lease = self.coordinator.renew(
            Renewal(
                runner_id, f"node-of-{runner_id}", 1, 1.0, self.coordinator.term, version or 0, holding, {}
            ),
            0.0,
        )
        self.versions[runner_id] = lease.version
        self.write()
        return bool(lease.grants)

    def write(self) -> None:
        """What is to be on the roster is there."""
        writes = self.coordinator.roster_writes()
        if writes:
            self.coordinator.roster_written(writes, 0.0)

    def catch_up(self) -> None:
        """Tick until everything is planned."""
        while self.coordinator.behind:
            began = time.process_time()
            self.coordinator.tick(0.0)
            self.longest_s = max(self.longest_s, time.process_time() - began)


def _cpu_s(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


def rest(runners: int, seconds: int) -> dict[str, float]:
    """CPU of a coordinator and its service, per second, while that many runners have nothing new to say."""
    loop = SteppedLoop()
    config = ClusterConfig(runners_per_node=runners, shards_per_group=10 * runners)
    renewals = 0

    async def runner(number: int) -> None:
        nonlocal renewals
        tenure = Tenure(f"runner-{number:05d}", "node", guard_s=config.guard_s)
        while True:
            sent_at = loop.time()
            tenure.apply(await service[0].renew(tenure.renewal()), sent_at, loop.time())
            renewals += 1

    service: list[CoordinatorService] = []

    async def start() -> list[asyncio.Task[None]]:
        service.append(
            CoordinatorService("rest", "one", MemoryKeyValue(), config, loop, loop.time, Recorder())
        )
        return [loop.create_task(runner(number)) for number in range(runners)]

    tasks = loop.call(start())
    loop.call(loop.advance(_SETTLE_S), timeout_s=600)
    held = sum(view.shards for view in service[0].coordinator.runners())
    if held != config.shards_per_group:
        raise AssertionError(f"{held} shards are granted of {config.shards_per_group}")
    plans, renewals = service[0].coordinator.plans, 0
    rest_s = _cpu_s(lambda: loop.call(loop.advance(seconds), timeout_s=600))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service[0].close()

    told = {
        "cpu_s_per_s": rest_s / seconds,
        "renewals_per_s": renewals / seconds,
        "plans_per_s": (service[0].coordinator.plans - plans) / seconds,
    }
    loop.call(stop())
    loop.end()
    return told


def measure(runners: int, shards: int, seconds: int) -> dict[str, Any]:
    """Start that many runners, lose a tenth of them, have as many others join; and let as many be at rest."""
    cluster = _Cluster(runners, shards)
    coordinator = cluster.coordinator
    names = [f"runner-{number:05d}" for number in range(runners)]

    def start() -> None:
        for name in names:
            cluster.renew(name)
        cluster.catch_up()

    start_s = _cpu_s(start)
    granted = sum(cluster.renew(name) for name in names)
    owned = coordinator.routes()
    if (
        owned is None
        or len(owned.owners) != shards
        or granted != len({who for who, _ in owned.owners.values()})
    ):
        raise AssertionError(f"{granted} of {runners} runners heard of their shards")

    full = write_routes(owned)
    lost = names[: runners // 10]

    def lose() -> None:
        for name in lost:
            coordinator.proven_dead(name, 0.0)
        cluster.write()
        cluster.catch_up()

    lose_s = _cpu_s(lose)
    news = coordinator.routes(owned.version)
    living = {view.runner_id for view in coordinator.runners() if view.healthy}
    now = owned.after(news or Routes(0, {}))
    if len(now.owners) != shards or not living.issuperset(who for who, _ in now.owners.values()):
        raise AssertionError("not every shard has been granted anew")
    changes = write_routes(news or Routes(0, {}))

    def join() -> None:
        for number in range(len(lost)):
            cluster.renew(f"late-{number:05d}")
        cluster.catch_up()

    return {
        "start_s": start_s,
        "lose_s": lose_s,
        "moved": len(news.owners) if news is not None else 0,
        "join_s": _cpu_s(join),
        "longest_tick_s": cluster.longest_s,
        "routes_bytes": len(full),
        "routes_s": _cpu_s(lambda: write_routes(owned)) + _cpu_s(lambda: read_routes(full)),
        "changes_bytes": len(changes),
        "changes_s": _cpu_s(lambda: write_routes(news or owned)) + _cpu_s(lambda: read_routes(changes)),
        "rest": rest(runners, seconds),
    }


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument."""
    print(json.dumps(measure(**json.loads(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
