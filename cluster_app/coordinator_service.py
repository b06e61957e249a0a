"""The coordinator at work: one term of leadership on an event loop.

Decides when the pure coordinator is asked, what is written to the store before its answers leave, and how long an
answer without news is held. Knows no transport: the memory cluster calls it directly, a Ray actor wraps it.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterable

from cluster_app.code import ShippedType, TypeConflict
from cluster_app.config import ClusterConfig
from cluster_app.coordinator import Coordinator, CoordinatorConfig, Routes
from cluster_app.grants import Lease, Renewal
from cluster_app.kv import KeyValue
from cluster_app.leadership import Leadership, NotLeading
from cluster_app.roster import Roster
from cluster_app.shard import ShardId, shard_number
from cluster_app.timetable import EARLY_S
from cluster_app.unknown_type import UnknownType
from observe.instruments import cluster
from observe.recorder import Recorder

__all__ = ["CoordinatorService"]

_HOLD_ROUTES_S = 1.0


class CoordinatorService:
    """Everything that runners and clients ask of a coordinator.

    :param now: a clock that goes on while the machine sleeps, in seconds; the loop's timers must follow it.
    :ivar drained: the nodes that are to be kept without runners.
    """

    def __init__(
        self,
        namespace: str,
        incarnation: str,
        kv: KeyValue,
        config: ClusterConfig,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self.config = config
        self._namespace = namespace
        self._kv = kv
        self._loop = loop
        self._now = now
        self._recorder = recorder
        self._roster = Roster(kv, namespace)
        # A third of a runner's lease: a new term waits this long before it may count the old one as ended.
        self._leadership = Leadership(kv, namespace, config.lease_s / 3, incarnation)
        self._types: dict[str, ShippedType] = {}
        self._changed: list[asyncio.Future[None]] = []
        self._seen_version = -1
        self._timer: asyncio.TimerHandle | None = None
        self._lead_at_first()

    def _lead_at_first(self) -> None:
        while self._leadership.claim(self._now()) is None:
            if self._leadership.abdicated:
                raise NotLeading(None)
        self._leadership.confirm(self._now())
        figures = CoordinatorConfig(
            lease_s=self.config.lease_s,
            guard_s=self.config.guard_s,
            drift_s=self.config.drift_s,
            shards_per_group=self.config.shards_per_group,
            expected_runners=self.config.runners_per_node,
        )
        self.coordinator = Coordinator(figures, self._leadership, self._roster.read(), self._now())
        self.coordinator.add_group("default", self._now())
        for key in self._kv.keys(f"{self._namespace}/type/"):
            stored = self._kv.get(key)
            if stored is not None:
                shipped: ShippedType = pickle.loads(stored)
                self._types[shipped.name] = shipped
                self.coordinator.add_group(shipped.group, self._now())
        kept = f"{self._namespace}/singleton/"
        for key in self._kv.keys(kept):
            group = self._kv.get(key)
            if group is not None:
                self.coordinator.keep(key.removeprefix(kept), group.decode(), self._now())
        prefix = f"{self._namespace}/drained/"
        self.drained = {key.removeprefix(prefix) for key in self._kv.keys(prefix)}
        for node_id in self.drained:
            self.coordinator.drain(node_id, self._now())
        self._tick()

    @property
    def term(self) -> int:
        """The term this coordinator claimed."""
        return self.coordinator.term

    @property
    def leads(self) -> bool:
        """Whether it leads now."""
        return self._leadership.leads(self._now())

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _tick(self) -> None:
        self._timer = None
        self._leadership.confirm(self._now())
        if self._leadership.abdicated:
            self._wake()
            return
        try:
            self.coordinator.tick(self._now())
            self._settle()
        except NotLeading:
            pass  # the store did not answer in time; the next confirmation may bring leadership back
        self._timer = self._loop.call_later(self.config.lease_s / 9, self._tick)

    def _settle(self) -> None:
        """Write what must be in the store before answers that depend on it leave; tell those who wait."""
        writes = self.coordinator.roster_writes()
        if writes:
            for write in writes:
                self._roster.write(write)
            # Only a confirmation asked for after the writes shows that they were this leader's to make.
            if self._leadership.confirm(self._now()):
                self.coordinator.roster_written(writes, self._now())
        handoffs = self.coordinator.drain_handoffs()
        if handoffs:
            with self._recorder.lock:
                for handoff in handoffs:
                    self._recorder.counter(
                        cluster.shard_handoffs, reason=handoff.reason, outcome=handoff.outcome
                    ).value += 1
                    self._recorder.histogram(cluster.shard_handoff, reason=handoff.reason).record(
                        handoff.seconds
                    )
        if self.coordinator.version != self._seen_version:
            self._seen_version = self.coordinator.version
            self._wake()

    def _wake(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def change(self, within_s: float) -> None:
        """Wait for a change of who holds what, at most so many seconds."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._changed.append(future)
        timer = self._loop.call_later(within_s, _done, future)
        try:
            await future
        finally:
            timer.cancel()

    # -- runners

    async def renew(self, renewal: Renewal) -> Lease:
        """Answer a runner, at the latest after a quarter of a lease. Raises NotLeading and RunnerEnded."""
        lease = self.coordinator.renew(renewal, self._now())
        self._settle()
        if lease.lease_s == 0 or lease.grants is not None:
            return lease
        until = self._now() + self.config.lease_s / 4
        while not self.coordinator.has_news(renewal) and (left := until - self._now()) > EARLY_S:
            await self.change(left)
        lease = self.coordinator.renew(renewal, self._now())
        self._settle()
        return lease

    def proven_dead(self, runner_id: str) -> None:
        """Its own node has seen the runner's process end."""
        self.coordinator.proven_dead(runner_id, self._now())
        if self.leads:
            self._settle()

    # -- drains

    def drain(self, node_id: str, draining: bool = True) -> None:
        """Move the shards off a node's runners and keep it empty, or end that. Outlives this coordinator."""
        key = f"{self._namespace}/drained/{node_id}"
        if draining:
            self._kv.put(key, b"")
            self.drained.add(node_id)
        else:
            self._kv.delete(key)
            self.drained.discard(node_id)
        self.coordinator.drain(node_id, self._now(), draining)
        self._settle()

    def drain_runner(self, runner_id: str) -> None:
        """Move the shards off one runner, which ends when it holds none."""
        self.coordinator.drain_runner(runner_id, self._now())
        self._settle()

    def held(self, runner_ids: Iterable[str]) -> dict[str, int]:
        """How many shards each of these runners has, those that have none left out."""
        wanted = set(runner_ids)
        views = self.coordinator.runners()
        return {view.runner_id: view.shards for view in views if view.runner_id in wanted and view.shards}

    # -- clients

    async def routes(self, known_version: int) -> Routes | None:
        """Where the shards are; held for a while if that is what the client knows already."""
        routes = self.coordinator.routes(known_version)
        if routes is None:
            await self.change(_HOLD_ROUTES_S)
            routes = self.coordinator.routes(known_version)
        return routes

    def owner(self, entity_type: str, entity_id: str) -> str | None:
        """The id of the runner whose shard an entity is in; None while none is granted it.

        :raises UnknownType: no such type is registered.
        """
        shipped = self._types.get(entity_type)
        if shipped is None:
            raise UnknownType(entity_type, self.type_names())
        number = shard_number(entity_type, entity_id, self.config.shards_per_group)
        return self.coordinator.owner(ShardId(shipped.group, number))

    def type_names(self) -> list[str]:
        """The names of all registered types."""
        return sorted(self._types)

    def register(self, shipped: ShippedType, replace: bool) -> None:
        """Take in a type. Raises what `check` raises."""
        known = self._types.get(shipped.name)
        if known is not None and known.digest == shipped.digest and (known.by_value or not shipped.by_value):
            return
        self.check(shipped, replace)
        self._kv.put(f"{self._namespace}/type/{shipped.name}", pickle.dumps(shipped))
        self._types[shipped.name] = shipped
        self.coordinator.add_group(shipped.group, self._now())
        self._settle()

    def check(self, shipped: ShippedType, replace: bool) -> None:
        """Whether a type may be taken in.

        :raises TypeConflict: the name is taken by other code, and neither may this replace it by itself (it was typed
            at the same prompt or notebook) nor was that asked for; or it would move to another shard group.
        """
        known = self._types.get(shipped.name)
        if known is None:
            return
        by_itself = bool(shipped.origin) and shipped.origin == known.origin
        if known.digest != shipped.digest and not (replace or by_itself):
            raise TypeConflict(
                f"entity type {shipped.name!r} is registered from {known.module}.{known.qualname} with other source or "
                f"options than {shipped.module}.{shipped.qualname} has here; pass register(..., replace=True) to run "
                "this code in new activations, or give the type another name with @entity(name=...)"
            )
        if known.group != shipped.group:
            raise TypeConflict(
                f"entity type {shipped.name!r} is in shard group {known.group!r}, and {shipped.group!r} would give its "
                "entities a second home; give the type another name"
            )

    def keep(self, name: str) -> None:
        """Keep exactly one entity of a registered type. Repeating it changes nothing.

        :raises LookupError: no such type is registered.
        :raises NotLeading: this coordinator cannot tell whether the next one will know: ask again.
        """
        shipped = self._types.get(name)
        if shipped is None:
            raise LookupError(f"no entity type {name!r} is registered, so none can be a singleton")
        if name in self.coordinator.singletons:
            return
        self._kv.put(f"{self._namespace}/singleton/{name}", shipped.group.encode())
        # Either the next term's reading sees what was written, or this confirmation sees the next term.
        if not self._leadership.confirm(self._now()):
            raise NotLeading(None)
        self.coordinator.keep(name, shipped.group, self._now())
        self._settle()

    def shipped(self, name: str) -> ShippedType | None:
        """The code of a registered type, or None."""
        return self._types.get(name)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
