"""Which nodes have an agent and runners: one look at the cluster in, a few commands out.

Decides where processes are started, which worker node is given up because no entity lives there, and when it is
taken back. A detached actor keeps its node busy in the eyes of Ray's autoscaler, so a node is given up as a whole.
Pure: how a runner is emptied, an agent's account handed over or a process started is the edge's business.

The head node is never given up, nor the last node that may have runners, of all or for a pinned shard group. Against
flapping: nodes go only after they
were without entities for `idle_node_s`, come back by load only after a while of it, one at a time, and stay away the
longer the less they were of use last time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from cluster_app.runner_record import RunnerView

__all__ = ["Command", "Look", "Staffing"]

_WELCOME_S = 10.0  # an agent that was wanted stays at least so long, for whoever wanted it to report
_CROWDED_FOR_S = 5.0  # so long must the runners be crowded before a node is taken back
_MOST_PATIENCE = 32  # times `idle_node_s` that a node of no use stays away at most


class Look(NamedTuple):
    """What there is at a moment.

    :ivar now: a clock, in seconds.
    :ivar head: the head node's id.
    :ivar nodes: the living nodes.
    :ivar agents: those of them with an agent.
    :ivar runners: the runners of each node whose processes are there or were started, by id.
    :ivar views: what the coordinator knows of them; one that is new has not been heard yet.
    :ivar drained: the nodes to be kept without runners: they drain, or the configuration wants none there.
    :ivar groups: the pinned shard groups that each node may serve; those that may serve none can be left out.
    :ivar ending: those of them that are about to be taken away: nothing can be started there any more.
    """

    now: float
    head: str
    nodes: Sequence[str]
    agents: Collection[str]
    runners: Mapping[str, Collection[str]]
    views: Mapping[str, RunnerView]
    drained: Collection[str]
    groups: Mapping[str, Collection[str]] = {}
    ending: Collection[str] = ()


class Command(NamedTuple):
    """Something to be done on a node.

    :ivar what: ``agent`` or ``runner`` (start one), ``empty`` (have its runners leave, unless somebody else reports
        there: then say `in_use`), ``retire`` (have its agent hand over its account and end, unless it is needed).
    """

    what: Literal["agent", "runner", "empty", "retire"]
    node_id: str


class Staffing:
    """The staff of one cluster, as one coordinator incarnation plans it; it starts with every node staffed.

    :param idle_node_s: seconds without an entity after which a worker node is given up; None: never.
    :param crowded_entities: live entities per runner, and
    :param crowded_busy: the share of a core per runner, from which on a node is taken back.
    """

    def __init__(
        self,
        runners_per_node: int,
        *,
        idle_node_s: float | None,
        crowded_entities: int,
        crowded_busy: float,
    ) -> None:
        self._runners_per_node = runners_per_node
        self._idle_node_s = idle_node_s
        self._crowded_entities = crowded_entities
        self._crowded_busy = crowded_busy
        self._given_up: dict[str, float] = {}  # since when; the longest first
        self._wanted: set[str] = set()
        self._used_at: dict[str, float] = {}
        self._patience: dict[str, int] = {}
        self._crowded_since: float | None = None

    @property
    def given_up(self) -> Collection[str]:
        """The nodes that have, or will have, neither runner nor agent until they are taken back."""
        return self._given_up.keys()

    def want(self, node_id: str) -> None:
        """A process of that node looks for its agent."""
        self._wanted.add(node_id)

    def in_use(self, node_id: str, now: float) -> None:
        """The node was to be given up, but somebody reports there."""
        self._used_at[node_id] = now
        self._given_up.pop(node_id, None)
        self._patience.pop(node_id, None)

    def look(self, seen: Look) -> list[Command]:
        """What to do now. Looking again before it is done asks for it again."""
        for gone in [node for node in self._given_up if node not in seen.nodes]:
            del self._given_up[gone]
        for known in (self._used_at, self._patience):
            for gone in [node for node in known if node not in seen.nodes]:
                del known[gone]
        self._wanted &= set(seen.nodes)
        self._take_back_what_is_needed(seen)
        self._take_back_for_load(seen)
        commands = [command for node in seen.nodes for command in self._of_node(node, seen)]
        return commands + self._give_up_what_is_idle(seen)

    def _of_node(self, node: str, seen: Look) -> list[Command]:
        runners = seen.runners.get(node, ())
        if node in self._given_up or node in seen.drained:
            wanted = node in self._wanted or node == seen.head
            if node not in seen.agents and wanted and node not in seen.ending:
                self._used_at[node] = seen.now
                return [Command("agent", node)]
            self._wanted.discard(node)
            if node in self._given_up and self._staying(node, seen):
                return [Command("empty", node)]
            lately = seen.now - self._used_at.get(node, -math.inf) < _WELCOME_S
            if runners or node not in seen.agents or node == seen.head or lately:
                return []
            return [Command("retire", node)]
        commands = [] if node in seen.agents else [Command("agent", node)]
        self._wanted.discard(node)
        # One that drains is replaced when it has ended, and before only if nobody else could take its shards.
        counted = runners if self._anybody_stays(seen) else self._staying(node, seen)
        missing = self._runners_per_node - len(counted)
        return commands + [Command("runner", node)] * max(0, missing)

    @staticmethod
    def _staying(node: str, seen: Look) -> list[str]:
        runners = seen.runners.get(node, ())
        return [name for name in runners if name not in seen.views or not seen.views[name].draining]

    def _anybody_stays(self, seen: Look) -> bool:
        return any(self._staying(node, seen) for node in self._open(seen))

    def _open(self, seen: Look) -> list[str]:
        """The nodes that have their runners, or get them."""
        return [node for node in seen.nodes if node not in self._given_up and node not in seen.drained]

    def _alone(self, node: str, seen: Look) -> bool:
        """Whether no other node could serve what this one can."""
        others = [other for other in self._open(seen) if other != node]
        elsewhere = {group for other in others for group in seen.groups.get(other, ())}
        return not others or not elsewhere.issuperset(seen.groups.get(node, ()))

    def _take_back_what_is_needed(self, seen: Look) -> None:
        for node in list(self._given_up):
            if node in self._wanted and node not in seen.drained:
                del self._given_up[node]
                self._used_at[node] = seen.now
        for node in [node for node in self._given_up if node not in seen.drained]:
            if self._alone(node, seen):
                del self._given_up[node]

    def _take_back_for_load(self, seen: Look) -> None:
        heard = self._heard(seen)
        away = [
            node for node in self._given_up if node not in seen.drained and self._was_away(node, seen.now)
        ]
        if heard is None or not away or not self._crowded(heard):
            self._crowded_since = None
            return
        if self._crowded_since is None:
            self._crowded_since = seen.now
        if seen.now - self._crowded_since >= _CROWDED_FOR_S:
            self._crowded_since = None
            del self._given_up[away[0]]
            self._used_at[away[0]] = seen.now

    def _heard(self, seen: Look) -> list[RunnerView] | None:
        """The runners that serve; None while some are still to start, and would take a share."""
        heard: list[RunnerView] = []
        for node in self._open(seen):
            staying = [seen.views[name] for name in self._staying(node, seen) if name in seen.views]
            healthy = [view for view in staying if view.healthy]
            if len(healthy) < self._runners_per_node:
                return None
            heard += healthy
        return heard

    def _crowded(self, views: list[RunnerView]) -> bool:
        entities = sum(view.entities for view in views)
        if entities >= self._crowded_entities * len(views):
            return True
        # Where there is hardly one entity for each, another runner would have nothing to do.
        return sum(view.busy for view in views) >= self._crowded_busy * len(views) and entities > 2 * len(
            views
        )

    def _was_away(self, node: str, now: float) -> bool:
        assert self._idle_node_s is not None  # else nothing is ever given up
        return now - self._given_up[node] >= self._idle_node_s * self._patience.get(node, 1)

    def _give_up_what_is_idle(self, seen: Look) -> list[Command]:
        if self._idle_node_s is None:
            return []
        commands: list[Command] = []
        for node in self._open(seen):
            views = [seen.views[name] for name in seen.runners.get(node, ()) if name in seen.views]
            if any(view.entities for view in views):
                self._patience.pop(node, None)
            if node == seen.head or self._alone(node, seen) or node not in seen.agents:
                continue
            if len(views) < self._runners_per_node or not all(view.healthy for view in views):
                continue
            idle_s = min(view.idle_s for view in views)
            used_at = self._used_at.get(node)
            if used_at is not None:
                idle_s = min(idle_s, seen.now - used_at)
            if idle_s >= self._idle_node_s and not any(view.entities for view in views):
                self._given_up[node] = seen.now
                self._patience[node] = min(_MOST_PATIENCE, 2 * self._patience.get(node, 0) or 1)
                commands.append(Command("empty", node))
        return commands
