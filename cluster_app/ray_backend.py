"""What stands behind a connection to a cluster on Ray."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from cluster_app.drain import DrainResult, DrainTimeout
from cluster_app.entity_states import CHUNK, states_from
from cluster_app.kv import KeyValueUnavailable
from cluster_app.ray_calls import COORDINATOR, actor_names, find_actor, is_of_service
from cluster_app.ray_kv import remove_all
from cluster_app.ray_reporter import Reporter
from cluster_app.status import (
    ClusterStatus,
    CoordinatorStatus,
    HotEntity,
    RunnerStatus,
    TelemetryStatus,
    hottest,
)
from observe.snapshot import MetricsSnapshot
from observe.totals import merge

__all__ = ["RayBackend"]

_log = logging.getLogger("cluster_app")

_BETWEEN_RUNNERS_S = 10.0  # longer than a lease of the default length and what comes before the next grant
# Longer than the coordinator takes for runners, its own counts and agents, each at their slowest.
_STOP_S = 30.0
_FORCE_S = 5.0


class RayBackend:
    """Asks the coordinator; `end` ends what belongs to this connection alone."""

    def __init__(self, namespace: str, reporter: Reporter, end: Callable[[], None] = lambda: None) -> None:
        self._namespace = namespace
        self._reporter = reporter
        self._end = end

    def _ask(self, method: str, *args: Any, within_s: float = 15.0) -> Any:
        """Call the coordinator, through its restarts. An error that it returns is a refusal, and raised: what is raised
        there may also be a failed call."""
        deadline = time.monotonic() + within_s
        while True:
            coordinator = find_actor(COORDINATOR, self._namespace)
            try:
                if coordinator is not None:
                    told = ray.get(getattr(coordinator, method).remote(*args), timeout=within_s)
                    break
            except RayError as error:
                if time.monotonic() > deadline:
                    raise ConnectionError(f"the coordinator did not answer: {error}") from error
            if time.monotonic() > deadline:
                raise ConnectionError(f"no coordinator in namespace {self._namespace!r}: was it shut down?")
            time.sleep(0.05)
        if isinstance(told, Exception):
            raise told
        return told

    def status(self) -> ClusterStatus:
        """Who is where, now."""
        told = self._ask("status")
        runners = [RunnerStatus(**runner) for runner in told["runners"]]
        return ClusterStatus(
            runners,
            told["entities"],
            sum(runner.shards for runner in runners),
            told["singletons"],
            CoordinatorStatus(**told["coordinator"]),
            told["version"],
            hottest(HotEntity(*hot) for hot in told["hot"]),
            [TelemetryStatus.of(node, state) for node, states in told["telemetry"] for state in states],
        )

    def metrics(self) -> MetricsSnapshot:
        """The sum over all nodes, after every living process has reported; says which have not."""
        sums, missing = self._ask("collect")
        if missing:
            _log.warning(
                "counts since their last report are missing of: %s (they live, and did not answer in time)",
                ", ".join(sorted(missing)),
            )
        return MetricsSnapshot(merge(sums), tuple(sorted(missing)))

    def states(self, type_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The public attributes of every living entity of a type, by id, chunk by chunk from each runner."""
        told: set[str] = set()  # an entity may move to a runner that is asked later
        for runner_id in self._ask("runner_ids"):
            actor = find_actor(runner_id, self._namespace)
            if actor is None:
                continue
            living: list[str] = self._from_runner(actor.living_ids, [], type_name)
            ids = [entity_id for entity_id in living if entity_id not in told]
            while ids:
                looked_at, data = self._from_runner(
                    actor.entity_states, (len(ids), b""), type_name, ids[:CHUNK]
                )
                del ids[:looked_at]
                for entity_id, state in states_from(data) if data else ():
                    told.add(entity_id)
                    yield entity_id, state

    def live(self, type_name: str) -> Iterator[str]:
        """The ids of the living entities of a type, runner by runner."""
        told: set[str] = set()  # an entity may move to a runner that is asked later
        for runner_id in self._ask("runner_ids"):
            actor = find_actor(runner_id, self._namespace)
            living: list[str] = [] if actor is None else self._from_runner(actor.living_ids, [], type_name)
            for entity_id in living:
                if entity_id not in told:
                    told.add(entity_id)
                    yield entity_id

    def type_names(self) -> list[str]:
        """The names of the registered types."""
        return list(self._ask("type_names"))

    def deactivate(self, type_name: str, entity_id: str) -> bool:
        """Have the runner that holds the entity's shard let it go."""
        deadline = time.monotonic() + _BETWEEN_RUNNERS_S
        while True:
            owner = self._ask("owner", type_name, entity_id)
            if owner is not None:
                actor = find_actor(owner, self._namespace)
                if actor is None:
                    return False  # it has ended, and its entities with it
                lived: bool | None = self._from_runner(actor.deactivate, False, type_name, entity_id)
                if lived is not None:
                    return lived
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"no runner has served the shard of {type_name}/{entity_id} for a while"
                )
            time.sleep(0.05)  # its shard is on its way

    @staticmethod
    def _from_runner(method: Any, if_gone: Any, *args: Any) -> Any:
        try:
            return ray.get(method.remote(*args), timeout=15.0)
        except ActorDiedError:
            return if_gone  # and its entities with it
        except (RayError, TimeoutError) as error:
            raise ConnectionError(f"a runner did not answer: {error}") from error

    def drain(self, target: str, timeout_s: float) -> DrainResult:
        """Begin a drain, and wait until its runners hold nothing."""
        started = time.monotonic()
        choice = self._ask("drain", target)
        runners = list(choice.runners)
        until = started + timeout_s
        while held := self._ask("held", runners, min(1.0, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                raise DrainTimeout(choice.target, timeout_s, held, self._ask("running", list(held)))
        seconds = time.monotonic() - started
        return DrainResult(choice.target, tuple(runners), sum(choice.runners.values()), seconds)

    def undrain(self, node_id: str) -> None:
        """Let a drained node have runners again."""
        self._ask("undrain", node_id)

    def shutdown(self) -> None:
        """Remove coordinator, runners and agents: in order, else by force."""
        self._end_connection()
        try:
            self._end_service()
        finally:
            self._end()

    def _end_service(self) -> None:
        coordinator = find_actor(COORDINATOR, self._namespace)
        failure: Exception | None = None
        if coordinator is not None:
            try:
                ray.get(coordinator.stop.remote(), timeout=_STOP_S)
            except (RayError, TimeoutError) as error:
                failure = error
        # The coordinator first: it would start the others anew.
        self._kill(lambda name: name == COORDINATOR)
        left = self._kill(is_of_service)
        if failure is not None:
            _log.warning("the service did not end in order, and was killed: %s", failure)
            with contextlib.suppress(KeyValueUnavailable):
                remove_all(f"{self._namespace}/")
        if left:
            _log.error("still there, after it was killed: %s", ", ".join(sorted(left)))

    def _kill(self, wanted: Callable[[str], bool]) -> set[str]:
        """End actors of the namespace; returns the names of those that Ray lists after a while nevertheless."""
        deadline = time.monotonic() + _FORCE_S
        while left := set(filter(wanted, actor_names(self._namespace))):
            for name in left:
                actor = find_actor(name, self._namespace)
                if actor is not None:
                    with contextlib.suppress(RayError):
                        ray.kill(actor, no_restart=True)
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return left

    def close(self) -> None:
        """End this connection."""
        self._end_connection()
        self._end()

    def _end_connection(self) -> None:
        self._reporter.end()
