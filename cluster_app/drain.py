"""Emptying a node or one runner: what a user may name, what is refused, and how it ended.

Decides which runners a target means. How shards move is `coordinator`'s business, and who is started in whose place
that of `staffing`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from cluster_app.runner_record import RunnerView

__all__ = ["DrainChoice", "DrainRefused", "DrainResult", "DrainTimeout", "chosen", "named"]

_NAMED = 10  # of what still runs, in an error's text


@dataclasses.dataclass(frozen=True, slots=True)
class DrainResult:
    """A drain that is done: none of `runners` holds a shard, and each ends by itself.

    :ivar target: the id of the node or runner.
    :ivar shards: how many moved.
    :ivar seconds: how long that took.
    """

    target: str
    runners: tuple[str, ...]
    shards: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return dataclasses.asdict(self)


class DrainRefused(RuntimeError):
    """Nobody else could take the shards, so nothing was moved."""


class DrainTimeout(TimeoutError):
    """Time is over and some shards are still held, by handlers that have not finished. The drain goes on.

    :ivar held: how many shards each runner still has.
    :ivar running: what runs on those runners, each ``Type/id.method``.
    """

    def __init__(
        self, target: str, timeout_s: float, held: Mapping[str, int], running: Iterable[str]
    ) -> None:
        self.target, self.timeout_s = target, timeout_s
        self.held, self.running = dict(held), list(running)
        super().__init__(target, timeout_s, self.held, self.running)

    def __str__(self) -> str:
        named = (
            ", ".join(self.running[:_NAMED])
            or "no handler: a runner does not answer, or nobody takes the shards"
        )
        more = f" and {len(self.running) - _NAMED} more" if len(self.running) > _NAMED else ""
        return (
            f"{self.target} still holds {sum(self.held.values())} shards after {self.timeout_s:g} s; there run: "
            f"{named}{more}. The drain goes on: the same call waits for it again"
        )


class DrainChoice(NamedTuple):
    """What a target means.

    :ivar node_id: the node, or None when one runner alone is meant.
    :ivar runners: the runners to be emptied, each with the shards it has.
    """

    target: str
    node_id: str | None
    runners: dict[str, int]


def named(target: str, known: Collection[str], what: str) -> str:
    """The id that is `target`, or the only one that begins so.

    :param what: the ids are of, in an error's text.
    :raises ValueError: there is none, or more than one.
    """
    found = (
        [target] if target in known else sorted(name for name in known if target and name.startswith(target))
    )
    if len(found) == 1:
        return found[0]
    wrong = f"{target!r} is the beginning of {len(found)} ids" if found else f"no {what} {target!r}"
    raise ValueError(f"{wrong}; there are: {', '.join(found or sorted(known)) or 'none'}")


def chosen(
    target: str, nodes: Collection[str], views: Iterable[RunnerView], drained: Collection[str]
) -> DrainChoice:
    """Find the node or runner of that id, or the only one whose id begins so.

    :param nodes: the living nodes.
    :param drained: the nodes among them that are drained already.
    :raises ValueError: there is none, or more than one.
    :raises DrainRefused: the node is the only one that is left.
    """
    views = list(views)
    name = named(target, {*nodes, *(view.runner_id for view in views)}, "node or runner")
    if name not in nodes:
        return DrainChoice(
            name, None, {view.runner_id: view.shards for view in views if view.runner_id == name}
        )
    if not set(nodes) - set(drained) - {name}:
        raise DrainRefused(
            f"no other node could take the shards of node {name}; add a node, or drain one runner of it: "
            "another is started in its place"
        )
    return DrainChoice(name, name, {view.runner_id: view.shards for view in views if view.node_id == name})
