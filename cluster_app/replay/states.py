"""What entities hold: asked of each one, by a message of its own.

It decides how a state is asked for and how it is written down. A state is the entity's public attributes.
An entity that was passivated since is activated anew to answer, and what it tells is what survived.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cluster_app.replay.port import ReplayCluster, Reply
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.target import type_name
from entities import Entity
from entities.declaration import define

__all__ = ["State", "check_readable", "read_states", "write_states"]

State = tuple[type[Any], str, dict[str, Any]]

READERS = ("public_state", "read")
IN_FLIGHT = 1_000  # replies awaited at a time, so that a million states are never held at once


def check_readable(kind: type[Entity]) -> str:
    """The message that tells a class's state. Raises Refusal when it declares none."""
    messages = define(kind).messages
    for name in READERS:
        if name in messages and messages[name].binds((), None) is None:
            return name
    raise Refusal(
        f"{kind.__name__} declares no message that tells its state",
        hint="add: @message def read(self) -> dict",
    )


def read_states(cluster: ReplayCluster, wanted: Iterable[tuple[type[Any], str]]) -> Iterator[State]:
    """Each entity's state, in the order asked. Raises what the message ended with, if it failed."""
    readers: dict[type[Any], str] = {}
    open_replies: deque[tuple[type[Any], str, Reply]] = deque()
    for kind, entity_id in wanted:
        if kind not in readers:
            readers[kind] = check_readable(kind)
        if len(open_replies) >= IN_FLIGHT:
            yield _state(*open_replies.popleft())
        reference = cluster.entity(kind, entity_id)
        cluster.wait_ready(reference)
        open_replies.append((kind, entity_id, getattr(reference, readers[kind]).remote()))
    while open_replies:
        yield _state(*open_replies.popleft())


def _state(kind: type[Any], entity_id: str, reply: Reply) -> State:
    value = reply.result()
    return kind, entity_id, value if isinstance(value, dict) else {"value": value}


def write_states(path: Path, states: Iterable[State]) -> int:
    """Write one JSON line ``{"type", "id", "state"}`` each; return how many.

    Raises Refusal when the file cannot be written.
    """
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for kind, entity_id, state in states:
                record = {"type": type_name(kind), "id": entity_id, "state": state}
                file.write(json.dumps(record, default=str) + "\n")
                count += 1
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror or error}") from error
    return count
