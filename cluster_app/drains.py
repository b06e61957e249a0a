"""Which runners are to be emptied: with their nodes, until that is undone, or alone, for good."""

from __future__ import annotations

from cluster_app.runner_record import RunnerRecord

__all__ = ["Drains"]


class Drains:
    """The drains of one term."""

    def __init__(self) -> None:
        self._nodes: set[str] = set()
        self._runners: set[str] = set()

    def node(self, node_id: str, draining: bool) -> bool:
        """Drain a node, or end that; False when nothing changes."""
        if draining == (node_id in self._nodes):
            return False
        (self._nodes.add if draining else self._nodes.discard)(node_id)
        return True

    def runner(self, runner_id: str) -> None:
        """Drain one runner."""
        self._runners.add(runner_id)

    def forget(self, runner_id: str) -> None:
        """That runner is no more."""
        self._runners.discard(runner_id)

    def hold(self, record: RunnerRecord) -> bool:
        """Whether a runner is to be emptied."""
        return record.node_id in self._nodes or record.runner_id in self._runners
