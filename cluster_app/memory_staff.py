"""The runners of a memory cluster, and the nodes that they are on.

Decides how many there are on which node: as many as were asked for, another one for each that ends, none on a node that
is drained. What a runner does is `memory_runner`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from cluster_app.config import ClusterConfig
from cluster_app.memory_coordinators import MemoryCoordinators
from cluster_app.memory_runner import MemoryRunner
from cluster_app.standing import Standing, standing_of
from cluster_app.stepped_loop import SteppedLoop

__all__ = ["MemoryStaff", "standings"]

_START_S = 1.0  # what a process takes to start


def standings(config: ClusterConfig, nodes: int | Sequence[Mapping[str, str | float]]) -> dict[str, Standing]:
    """What each node has that is not merely counted, by the node's id."""
    if isinstance(nodes, int):
        return {}
    return {
        f"node-{number}": standing_of(
            config,
            {name: value for name, value in node.items() if isinstance(value, str)},
            {name: value for name, value in node.items() if not isinstance(value, str)},
        )
        for number, node in enumerate(nodes, 1)
    }


class MemoryStaff:
    """Everything here happens on the cluster's loop.

    :param numbers: tells its runners apart, and the cluster's coordinators as well.
    :param make: makes a runner of this id on this node, which has that standing; it starts at once.
    :param parted: called with a drained runner that has ended in order, before it is gone.
    :ivar runners: those that live, by id.
    :ivar wanted: how many there are to be on each node.
    """

    def __init__(
        self,
        loop: SteppedLoop,
        numbers: Iterator[int],
        coordinators: MemoryCoordinators,
        standings: Mapping[str, Standing],
        usual: Standing,
        make: Callable[[str, str, Standing], MemoryRunner],
        parted: Callable[[MemoryRunner], None],
    ) -> None:
        self.runners: dict[str, MemoryRunner] = {}
        self.wanted: dict[str, int] = {}
        self._loop = loop
        self._coordinators = coordinators
        self._standings = standings
        self._usual = usual
        self._make = make
        self._parted = parted
        self._numbers = numbers
        self._closed = False

    def find(self, runner_id: str) -> MemoryRunner:
        """The runner of that id; raises KeyError."""
        found = self.runners.get(runner_id)
        if found is None:
            raise KeyError(f"no runner {runner_id!r}; there are {sorted(self.runners)}")
        return found

    def add(self, node_id: str) -> str:
        """Start a runner on a node, beyond what is wanted there; returns its id."""
        runner_id = f"memory-{next(self._numbers)}"
        standing = self._standings.get(node_id, self._usual)
        self.runners[runner_id] = self._make(runner_id, node_id, standing)
        return runner_id

    def join(self, node_id: str | None) -> str:
        """Want one more runner on a node, or on a new one, and start it; returns its id. Raises ValueError."""
        name = node_id or f"node-{len(self.wanted) + 1}"
        if node_id is not None and node_id not in self.wanted:
            raise ValueError(f"no node {node_id!r}; there are: {', '.join(self.wanted)}")
        if name in self._coordinators.asked[0].drained:
            raise ValueError(f"node {name} is drained; undrain it first")
        self.wanted[name] = self.wanted.get(name, 0) + 1
        return self.add(name)

    def fill(self, node_id: str) -> None:
        """Start what is wanted on a node and not there."""
        if self._closed or node_id in self._coordinators.asked[0].drained:
            return
        there = sum(memory.node_id == node_id for memory in self.runners.values())
        for _ in range(there, self.wanted[node_id]):
            self.add(node_id)

    def kill(self, runner_id: str, *, proven: bool) -> None:
        """End a runner as `kill -9` does, and start another one; raises KeyError.

        :param proven: its node has seen that.
        """
        memory = self.find(runner_id)
        memory.kill()
        del self.runners[runner_id]
        if proven:
            self._coordinators.proven_dead(runner_id)
        self.fill(memory.node_id)

    def left(self, memory: MemoryRunner) -> None:
        """A drained runner has ended in order; a process that takes its place needs a moment to start."""
        runner_id = memory.runner.runner_id
        self._parted(memory)
        memory.kill()
        del self.runners[runner_id]
        self._coordinators.proven_dead(runner_id)
        self._loop.call_later(_START_S, self.fill, memory.node_id)

    async def close(self) -> None:
        """End all of them in order, and start none."""
        self._closed = True
        for memory in self.runners.values():
            await memory.runner.close()
            memory.kill()
