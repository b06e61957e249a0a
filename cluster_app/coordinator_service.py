"""The coordinator at work: one term of leadership on an event loop.

Decides when the pure coordinator is asked, what is written to the store before its answers leave, and how long an
answer without news is held. Knows no transport: the memory cluster calls it directly, a Ray actor wraps it.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from cluster_app.code import ShippedType, TypeConflict
from cluster_app.coordinator import Coordinator, CoordinatorConfig
from cluster_app.grants import Lease, Renewal
from cluster_app.handoff_spans import HandoffSpans
from cluster_app.kv import KeyValue, KeyValueUnavailable
from cluster_app.leadership import Leadership, NotLeading
from cluster_app.roster import Roster
from cluster_app.routes import Routes
from cluster_app.shard import ShardId, shard_number
from cluster_app.timetable import EARLY_S
from cluster_app.unknown_type import UnknownType
from observe import sampling
from observe.instruments import cluster
from observe.recorder import Recorder
from observe.traces import Traces, process_traces

if TYPE_CHECKING:
    from cluster_app.config import ClusterConfig  # takes its time to load; see `config_text`

__all__ = ["CoordinatorService"]

_HOLD_ROUTES_S = 5.0  # senders whose runner is silent keep asking
_BREATH_S = 0.005  # what others get between two slices of a great plan


class CoordinatorService:
    """Everything that runners and clients ask of a coordinator.

    :param now: a clock that goes on while the machine sleeps, in seconds; the loop's timers must follow it.
    :param traces: where the spans of handoffs go.
    :ivar drained: the nodes that are to be kept without runners, until that is undone.
    :ivar ending: the nodes that are about to be taken away.
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
        traces: Traces = process_traces,
    ) -> None:
        self.config = config
        self._namespace = namespace
        self._kv = kv
        self._loop = loop
        self._now = now
        self._recorder = recorder
        self._spans = HandoffSpans(traces, now, incarnation)
        self._roster = Roster(kv, namespace)
        # A third of a runner's lease: a new term waits this long before it may count the old one as ended.
        self._leadership = Leadership(kv, namespace, config.lease_s / 3, incarnation)
        self._types: dict[str, ShippedType] = {}
        self._changed: dict[asyncio.Future[None], None] = {}
        # Those who wait for news of one runner: waking a thousand for each change would cost more than the change.
        self._renewing: dict[str, dict[asyncio.Future[None], None]] = {}
        sampling.begin()
        self._seen_version = -1
        self._timer: asyncio.TimerHandle | None = None
        self._lead_at_first()

    def _lead_at_first(self) -> None:
        while self._leadership.claim(self._now()) is None:
            if self._leadership.abdicated:
                raise NotLeading(None)
        figures = CoordinatorConfig(
            lease_s=self.config.lease_s,
            guard_s=self.config.guard_s,
            drift_s=self.config.drift_s,
            shards_per_group=self.config.shards_per_group,
            expected_runners=self.config.runners_per_node,
            pinned_groups=frozenset(self.config.groups),
        )
        roster = self._roster.take_over(self._leadership.require(self._now()))
        types, kept = self._stored("type"), self._stored("singleton")
        self.drained = set(self._stored("drained"))
        self.ending: Collection[str] = frozenset()
        # All of that is read first: it may take longer than the claim lasts, and nothing below may.
        self._leadership.confirm(self._now())
        self.coordinator = Coordinator(figures, self._leadership, roster, self._now())
        self.coordinator.add_group("default", self._now())
        for stored in types.values():
            shipped: ShippedType = pickle.loads(stored)
            self._types[shipped.name] = shipped
            self.coordinator.add_group(shipped.group, self._now())
            self.coordinator.ship(shipped.name, shipped.digest, self._now())
        for name, group in kept.items():
            self.coordinator.keep(name, group.decode(), self._now())
        for node_id in self.drained:
            self.coordinator.drain(node_id, self._now())
        self._tick()

    def _stored(self, what: str) -> dict[str, bytes]:
        """What the store has under a heading, by name."""
        prefix = f"{self._namespace}/{what}/"
        found = {key.removeprefix(prefix): self._kv.get(key) for key in self._kv.keys(prefix)}
        return {name: value for name, value in found.items() if value is not None}

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
        self._wake_all()

    def _tick(self) -> None:
        self._timer = None
        self._leadership.confirm(self._now())
        if self._leadership.abdicated:
            self._wake_all()
            return
        try:
            self.coordinator.tick(self._now())
            self._settle()
        except (NotLeading, KeyValueUnavailable):
            pass  # the store did not answer, or not in time; the next confirmation may bring leadership back
        self._timer = self._loop.call_later(self._until_next_tick(), self._tick)

    def _until_next_tick(self) -> float:
        if self.leads and self.coordinator.behind:
            return _BREATH_S
        often_s = self.config.lease_s / 9
        # At the very moment at which a lease ends, rather than up to that much later; what can't be helped then waits.
        deadline = self.coordinator.next_deadline()
        return often_s if deadline is None else min(often_s, max(deadline - self._now(), often_s / 10))

    def _settle(self) -> None:
        """Write what must be in the store before answers that depend on it leave; tell those who wait."""
        writes = self.coordinator.roster_writes()
        if writes:
            self._roster.write(writes)
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
            self._spans.handed_over(handoffs, self.coordinator.runners)
        if self._spans.under_way:
            self._spans.look(self.coordinator.vacancies())
        if self.coordinator.version != self._seen_version:
            self._seen_version = self.coordinator.version
            waiting = list(self._changed)
            for runner_id in self.coordinator.drain_news():
                waiting += self._renewing.get(runner_id, ())
            _wake(waiting)

    def _wake_all(self) -> None:
        _wake(list(itertools.chain(self._changed, *self._renewing.values())))

    async def change(self, within_s: float) -> None:
        """Wait for a change of who holds what, at most so many seconds."""
        await self._woken(self._changed, within_s)

    async def _news(self, runner_id: str, within_s: float) -> None:
        waiting = self._renewing.setdefault(runner_id, {})
        try:
            await self._woken(waiting, within_s)
        finally:
            if not waiting and self._renewing.get(runner_id) is waiting:
                del self._renewing[runner_id]

    async def _woken(self, among: dict[asyncio.Future[None], None], within_s: float) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        among[future] = None
        timer = self._loop.call_later(within_s, _done, future)
        try:
            await future
        finally:
            timer.cancel()
            del among[future]  # a cluster at rest must not keep all who ever waited

    # -- runners

    async def renew(self, renewal: Renewal) -> Lease:
        """Answer a runner, at the latest after a quarter of a lease. Raises NotLeading and RunnerEnded."""
        self._spans.held_up(renewal.runner_id, renewal.held_up)
        received_at = self._now()
        lease = self.coordinator.renew(renewal, received_at)
        self._settle()
        if lease.lease_s == 0 or lease.grants is not None:
            return lease
        until = received_at + self.config.lease_s / 4
        while not self.coordinator.has_news(renewal) and (left := until - self._now()) > EARLY_S:
            await self._news(renewal.runner_id, left)
        lease = self.coordinator.renew(renewal, self._now(), received_at=received_at)
        self._settle()
        return lease

    def proven_dead(self, runner_id: str) -> None:
        """Its own node has seen the runner's process end."""
        self.coordinator.proven_dead(runner_id, self._now())
        if self.leads:
            self._settle()

    def lose_nodes(self, node_ids: Iterable[str]) -> None:
        """These nodes, all that there are, have been given up for good."""
        self.coordinator.lose_nodes(node_ids)

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
        self.coordinator.drain(node_id, self._now(), node_id in self.kept_empty)
        self._settle()

    @property
    def kept_empty(self) -> Collection[str]:
        """The nodes that are to have no runners, for whatever reason."""
        return self.drained | frozenset(self.ending)

    def expect_end_of(self, nodes: Collection[str]) -> None:
        """These nodes are about to be taken away, and no others: move their shards off. Raises NotLeading."""
        changed = frozenset(nodes) ^ frozenset(self.ending)
        for node_id in sorted(changed):
            self.coordinator.drain(node_id, self._now(), node_id in nodes or node_id in self.drained)
        self.ending = frozenset(nodes)
        if changed:
            self._settle()

    def anybody_stays(self) -> bool:
        """Whether a runner is there that can take shards."""
        return any(view.healthy and not view.draining for view in self.coordinator.runners())

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
        routes = self.coordinator.routes(known_version, self._now())
        if routes is None:
            await self.change(_HOLD_ROUTES_S)
            routes = self.coordinator.routes(known_version, self._now())
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

    @property
    def groups(self) -> set[str]:
        """The shard groups that types are registered in."""
        return {shipped.group for shipped in self._types.values()}

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
        self.coordinator.add_group(shipped.group, self._now())
        self.coordinator.ship(shipped.name, shipped.digest, self._now())
        # Last: should it not lead just now, the same call made again is to do all of that.
        self._types[shipped.name] = shipped
        self._settle()

    def may_replace(self, shipped: ShippedType, replace: bool) -> bool:
        """Whether a type may take its name from other code: that was asked for, or both were typed at one prompt."""
        known = self._types.get(shipped.name)
        return known is not None and (replace or (bool(shipped.origin) and shipped.origin == known.origin))

    def check(self, shipped: ShippedType, replace: bool) -> None:
        """Whether a type may be taken in.

        :raises TypeConflict: the name is taken by other code, and neither may this replace it by itself (it was typed
            at the same prompt or notebook) nor was that asked for; or it would move to another shard group.
        """
        known = self._types.get(shipped.name)
        if known is None:
            return
        if known.digest != shipped.digest and not self.may_replace(shipped, replace):
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


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for future in waiting:
        _done(future)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
