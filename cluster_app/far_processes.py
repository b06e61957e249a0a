"""Which processes of a node's runners run on other nodes: kept in a file, so that an agent after this one knows it.

Decides nothing about them. The file outlives the agent's process and not its machine, as the processes' owners do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster_app.ray_calls import owner_of

__all__ = ["FarProcesses"]


class FarProcesses:
    """By process, the node where it runs.

    :param path: the file; what it holds is taken over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, process: str, node_id: str) -> None:
        """It runs there. In the file when this returns."""
        self._nodes[process] = node_id
        self._write()

    def node_of(self, process: str) -> str | None:
        """Where it runs; None if it is not known."""
        return self._nodes.get(process)

    def remove(self, process: str) -> None:
        """It has ended."""
        if self._nodes.pop(process, None) is not None:
            self._write()

    def of(self, owner: str) -> list[str]:
        """Those that belong to this runner."""
        return [process for process in self._nodes if owner_of(process) == owner]

    def clear(self) -> None:
        """Forget all, and remove the file."""
        self._nodes.clear()
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        # They are few, and a process takes longer to start than this does by far.
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(self._nodes))
        os.replace(written, self._path)
