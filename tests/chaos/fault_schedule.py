"""Which faults a run makes, and when: from a seed alone.

Decides kinds, targets by their roles and times, so that a seed gives the same schedule again. Who has a role at that
moment, and what comes of it, is not its business. Each kind comes once before any comes by chance.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

__all__ = ["DRIVERS", "HEAD", "KINDS", "QUIET_END_S", "WORKERS", "Fault", "schedule"]

HEAD = "head"
WORKERS = ("worker-1", "worker-2")
DRIVERS = ("driver-1", "driver-2")
KINDS: tuple[str, ...] = (
    "kill runner",
    "stop runner",
    "kill raylet",
    "stop raylet",
    "kill coordinator",
    "stop coordinator",
    "kill agent",
    "stop agent",
    "kill driver",
    "stop driver",
    "join",
    "leave",
    "drain",
    "undrain",
)
QUIET_END_S = 4.0  # the last fault comes no later: what follows shows that all goes on

_FIRST_S = 1.0
_PAUSE_S = (1.0, 3.0)  # between two faults
_AWAY_S = (3.0, 6.0)  # until a node that was lost has a successor, or a drained one is taken back
_NODE_LOST_S = 3.5  # for so long without a word, and a node counts as lost: see `tests.nodes.several_nodes`
_NODE_STAYS_S = (0.3, 0.9)
_TOGETHER = 0.7  # how often a runner stands still while the coordinator is followed by another
# And how often a driver is started again by then, which knows nothing but what the other one says.
_NEWCOMER = 0.5
_TOGETHER_S = 0.2  # by then at the latest: soon enough that it has not heard of the other one
_STOPPED_LEASES = (0.5, 4.5)
_LONGEST_STOP_S = 6.0


class Fault(NamedTuple):
    """One fault.

    :ivar at: seconds after the load began.
    :ivar target: the role of the process or node: a node's, or a driver's; empty for the coordinator.
    :ivar lasts_s: for how long a process stands still; 0 for what is done in a moment.
    """

    at: float
    kind: str
    target: str
    lasts_s: float = 0.0


class _Nodes:
    """The worker nodes, as the schedule expects them to be."""

    def __init__(self) -> None:
        self.away: dict[str, float] = {}  # node: not back before
        self.drained: dict[str, float] = {}

    @property
    def whole(self) -> list[str]:
        return [node for node in WORKERS if node not in self.away and node not in self.drained]

    @property
    def all_there(self) -> bool:
        return len(self.whole) == len(WORKERS)


def schedule(seed: int, seconds: float, lease_s: float) -> list[Fault]:
    """The faults of a run of this length, by time.

    At most one node is lost or drained at a time, so that there is always another to go to. The head stays: Ray itself
    has no life without it.

    :raises ValueError: the time is too short for one fault of each kind.
    """
    least = _FIRST_S + len(KINDS) * _PAUSE_S[1] + QUIET_END_S
    if seconds < least:
        raise ValueError(f"{seconds} s are too short for {len(KINDS)} kinds of faults; at least {least:g}")
    chance = random.Random(seed)
    nodes = _Nodes()
    faults: list[Fault] = []
    missing: list[str] = list(KINDS)
    chance.shuffle(missing)
    at = _FIRST_S
    while at < seconds - QUIET_END_S:
        fault = _next(at, missing, nodes, lease_s, chance)
        faults.append(fault)
        if fault.kind == "kill coordinator" and chance.random() < _TOGETHER:
            silent_at = round(min(at + chance.uniform(0.0, _TOGETHER_S), seconds - QUIET_END_S), 2)
            faults.append(_silent_at_a_change_of_term(silent_at, nodes, lease_s, chance))
            _shown(missing, "stop runner")
            if chance.random() < _NEWCOMER:
                faults.append(Fault(silent_at, "kill driver", DRIVERS[0]))
                _shown(missing, "kill driver")
        at = round(at + chance.uniform(*_PAUSE_S), 2)
    return sorted(faults)


def _silent_at_a_change_of_term(at: float, nodes: _Nodes, lease_s: float, chance: random.Random) -> Fault:
    """A runner that the next coordinator cannot hear, and must wait for."""
    lasts_s = round(min(chance.uniform(2.0, 4.5) * lease_s, 2 * _LONGEST_STOP_S), 2)
    return Fault(at, "stop runner", chance.choice([HEAD, *nodes.whole]), lasts_s)


def _next(at: float, missing: list[str], nodes: _Nodes, lease_s: float, chance: random.Random) -> Fault:
    for node, back_at in list(nodes.away.items()):
        if at >= back_at:
            del nodes.away[node]
            _shown(missing, "join")
            return Fault(at, "join", node)
    for node, back_at in list(nodes.drained.items()):
        if at >= back_at:
            del nodes.drained[node]
            _shown(missing, "undrain")
            return Fault(at, "undrain", node)
    possible = [kind for kind in missing or KINDS if _possible(kind, nodes)]
    # What is missing may have to wait for a node to be back.
    kind = (possible or [k for k in KINDS if _possible(k, nodes)])[0] if missing else chance.choice(possible)
    _shown(missing, kind)
    return _made(at, kind, nodes, lease_s, chance)


def _shown(missing: list[str], kind: str) -> None:
    if kind in missing:
        missing.remove(kind)


def _possible(kind: str, nodes: _Nodes) -> bool:
    if kind in ("join", "undrain"):
        return False  # they follow what they make good
    return nodes.all_there if kind in ("kill raylet", "leave", "drain") else True


def _made(at: float, kind: str, nodes: _Nodes, lease_s: float, chance: random.Random) -> Fault:
    what, _, whom = kind.partition(" ")
    stopped_s = round(min(chance.uniform(*_STOPPED_LEASES) * lease_s, _LONGEST_STOP_S), 2)
    if kind in ("kill raylet", "leave", "drain", "stop raylet"):
        target = chance.choice(nodes.whole)
        back_at = at + chance.uniform(*_AWAY_S)
        if kind == "stop raylet":
            if nodes.all_there and chance.random() < 0.5:
                nodes.away[target] = back_at + _NODE_LOST_S
                return Fault(at, kind, target, _NODE_LOST_S)
            return Fault(at, kind, target, round(chance.uniform(*_NODE_STAYS_S), 2))
        (nodes.drained if kind == "drain" else nodes.away)[target] = back_at
        return Fault(at, kind, target)
    if whom == "driver":
        target = chance.choice(DRIVERS)
    elif whom == "coordinator":
        target = ""
    else:
        target = chance.choice([HEAD, *nodes.whole])
    return Fault(at, kind, target, stopped_s if what == "stop" else 0.0)


def counts(faults: list[Fault]) -> Counter[str]:
    """How many of each kind, those that are missing as 0."""
    return Counter({kind: 0 for kind in KINDS}) + Counter(fault.kind for fault in faults)
