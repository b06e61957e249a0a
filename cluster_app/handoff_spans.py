"""The spans of shards that change runner: which nodes or runners were emptied, and what that took.

Decides how many there are. A trace for each move: a node that drains, runners that leave it or are lost on it, or a
join that takes shards from all others; below it one span for each runner that gave shards away, `_MOST_RUNNERS` at
most. A span for each shard would be 300 of them that say the same, and a batch of shards is nothing that anybody asked
for; the shard that took longest is named, and so are the handlers that shards waited for.

Made of what `ledger` counts as handoffs, and so at their end: what is under way when the coordinator ends has no span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster_app.handoff import Handoff, Vacancy
from cluster_app.runner_record import RunnerView
from cluster_app.shard import ShardId
from observe import sampling
from observe.span_context import SpanContext
from observe.spans import INTERNAL, Span
from observe.traces import Traces

__all__ = ["HandoffSpans"]

_MOST_RUNNERS = 50
_MOST_HELD_UP = 1000  # runners of which it is kept what held them up


@dataclass
class _Part:
    """What went from one runner, or from all."""

    start: float
    end: float = 0.0
    shards: int = 0
    errors: int = 0
    longest: tuple[float, ShardId | None] = (0.0, None)

    def add(self, handoff: Handoff, now: float) -> None:
        self.start, self.end = min(self.start, now - handoff.seconds), now
        self.shards += 1
        self.errors += handoff.outcome == "error"
        if self.longest[1] is None or handoff.seconds > self.longest[0]:
            self.longest = (handoff.seconds, handoff.shard)


@dataclass
class _Move:
    """One trace: shards that go for one reason, from one node or wherever they are."""

    context: SpanContext | None
    whole: _Part
    runners: dict[str, _Part] = field(default_factory=dict)


class HandoffSpans:
    """The spans of one coordinator's term. Nothing is made, nor looked at, where traces are off.

    :param now: the coordinator's clock.
    """

    def __init__(self, traces: Traces, now: Callable[[], float], coordinator: str) -> None:
        self._traces = traces
        self._now = now
        self._coordinator = coordinator
        self._moves: dict[tuple[str, str], _Move] = {}
        self._held_up: dict[str, tuple[tuple[str, float], ...]] = {}
        self._nodes: dict[str, str] = {}

    @property
    def under_way(self) -> bool:
        """Whether a move has begun and not ended."""
        return bool(self._moves)

    def held_up(self, runner_id: str, longest: tuple[tuple[str, float], ...]) -> None:
        """A runner says what its shards waited for, the last time that it had any to let go."""
        if not longest:
            self._held_up.pop(runner_id, None)
        elif sampling.begins():
            self._held_up[runner_id] = longest
            while len(self._held_up) > _MOST_HELD_UP:
                del self._held_up[next(iter(self._held_up))]

    def handed_over(self, handoffs: Iterable[Handoff], runners: Callable[[], Iterable[RunnerView]]) -> None:
        """Shards have changed runner.

        :param runners: those that are known.
        """
        if not sampling.begins():
            return
        now = self._now()
        nodes = {view.runner_id: view.node_id for view in runners()}
        for handoff in handoffs:
            move = self._move(handoff.reason, handoff.runner_id, nodes, now)
            move.whole.add(handoff, now)
            if handoff.runner_id in move.runners or len(move.runners) < _MOST_RUNNERS:
                move.runners.setdefault(handoff.runner_id, _Part(now)).add(handoff, now)

    def _move(self, reason: str, runner_id: str, nodes: Mapping[str, str], now: float) -> _Move:
        # A runner is forgotten soon after its end, while its last shards may still be on their way.
        node = nodes.get(runner_id) or self._nodes.get(runner_id, "")
        self._nodes[runner_id] = node
        key = (reason, "" if reason == "join" else node)
        move = self._moves.get(key)
        if move is None:
            parent = sampling.parent(sampling.look(), inside=False)
            self._moves[key] = move = _Move(None if parent is None else parent.child(), _Part(now))
        return move

    def look(self, vacancies: Iterable[Vacancy]) -> None:
        """End the moves of which nothing is left.

        :param vacancies: the shards that are asked for, or have no runner yet.
        """
        left = {self._key(vacancy) for vacancy in vacancies}
        for key in [key for key in self._moves if key not in left]:
            self._tell(key, self._moves.pop(key))
        if not self._moves:
            self._nodes.clear()
            self._held_up.clear()

    def _key(self, vacancy: Vacancy) -> tuple[str, str]:
        return vacancy.reason, "" if vacancy.reason == "join" else self._nodes.get(vacancy.runner_id, "")

    def _tell(self, key: tuple[str, str], move: _Move) -> None:
        if move.context is None:
            return
        reason, node = key
        start_s, start_ns = move.whole.start, self._traces.unix_ns(move.whole.start)

        def unix_ns(at_s: float) -> int:
            return start_ns + round(
                (at_s - start_s) * 1e9
            )  # of one reading: no part may seem to begin before

        where = {"cluster.node": node} if node else {}
        of_all = {
            **where,
            "cluster.coordinator": self._coordinator,
            "cluster.handoff.runners": len(move.runners),
        }
        self._add(f"handoff {reason}", move.context, None, reason, move.whole, of_all, unix_ns)
        for runner_id, part in move.runners.items():
            of_one: dict[str, Any] = {"cluster.runner": runner_id}
            if held_up := self._held_up.get(runner_id):
                of_one["cluster.handoff.held_up"] = [f"{name} {seconds:.3f} s" for name, seconds in held_up]
            self._add("hand over", move.context.child(), move.context, reason, part, of_one, unix_ns)

    def _add(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        reason: str,
        part: _Part,
        attributes: Mapping[str, Any],
        unix_ns: Callable[[float], int],
    ) -> None:
        says = (
            f"{part.errors} of {part.shards} shards were lost before they were let go" if part.errors else ""
        )
        longest_s, shard = part.longest
        self._traces.spans.add(
            Span(
                name,
                INTERNAL,
                context,
                parent,
                unix_ns(part.start),
                unix_ns(part.end),
                {
                    "cluster.handoff.reason": reason,
                    "cluster.handoff.shards": part.shards,
                    "cluster.handoff.errors": part.errors,
                    "cluster.handoff.longest_s": longest_s,
                    "cluster.handoff.longest_shard": str(shard),
                    "cluster.outcome": "error" if part.errors else "ok",
                    **attributes,
                },
                False if part.errors else None,
                says,
            )
        )
