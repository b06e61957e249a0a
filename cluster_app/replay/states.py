"""What entities hold: read from the cluster, and written down as JSON lines.

It decides which entities' states are wanted and how they stand in the file. A state is the public attributes of a
living entity; what was let go has none any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster_app.replay.port import ReplayCluster
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.target import type_name
from entities import Entity

__all__ = ["State", "StatesFile", "fed_states"]

State = tuple[type[Entity], str, dict[str, Any]]


def fed_states(cluster: ReplayCluster, fed: Mapping[type[Entity], set[str]]) -> Iterator[State]:
    """The states of those that were fed and live, type by type."""
    for kind, ids in fed.items():
        for entity_id, state in cluster.states(kind):
            if entity_id in ids:
                yield kind, entity_id, state


class StatesFile:
    """One JSON line ``{"type", "id", "state"}`` for each entity."""

    def __init__(self, path: Path) -> None:
        """Open the file now, so that an hour of feeding is not in vain. Raises Refusal when it cannot be written."""
        self.path = path
        try:
            path.open("w").close()
        except OSError as error:
            raise Refusal(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, states: Iterable[State]) -> int:
        """Write all states, sorted by type and id; return how many. Raises Refusal when the disk refuses."""
        lines: list[tuple[str, str, str]] = []
        for kind, entity_id, state in states:
            name = type_name(kind)
            lines.append((name, entity_id, _json({"type": name, "id": entity_id, "state": state})))
        lines.sort()
        try:
            with self.path.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for _, _, line in lines)
        except OSError as error:
            raise Refusal(f"cannot write {self.path}: {error.strerror or error}") from error
        return len(lines)


def _json(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        state = {name: _readable(value) for name, value in record["state"].items()}
        return json.dumps({**record, "state": state}, default=str, allow_nan=False)


def _readable(value: Any) -> Any:
    """The value, or its text where JSON has no form for it: keys that are tuples, a float that is no number."""
    try:
        json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value
