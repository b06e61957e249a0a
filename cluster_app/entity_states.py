"""What entities hold, read from outside without a message: their public attributes.

Decides what of an entity's state travels, and in what form. An attribute is public when its name has no leading
underscore. Numbers, strings and the like travel as they are; everything else is pickled by itself, so that one value
that cannot be pickled, or not unpickled where it arrives, costs no other: it arrives as its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cluster_app.envelope import Atoms, Codec
from entities.activation import Activation, Phase
from entities.annex import AnnexLost
from entities.entity_class import Entity
from entities.live_table import LiveTable

__all__ = ["CHUNK", "living_ids", "read_states", "state_of", "states_from"]

CHUNK = 1_000  # entities asked for at a time: a runner's event loop has a turn after some milliseconds
_CHUNK_BYTES = 4_000_000  # what is read at a time once states are large

_codec = Codec()  # as messages travel: what arrives is of the reader's own classes


class _Pickled(NamedTuple):
    """A value that is no atom, and the name of its type."""

    data: bytes
    kind: str


def living_ids(live: LiveTable, entity_type: str) -> list[str]:
    """The ids of the living entities of a type."""
    hosted = live.hosted(entity_type)
    return [] if hosted is None else list(hosted.live)


async def read_states(live: LiveTable, entity_type: str, ids: Sequence[str]) -> tuple[int, bytes]:
    """How many of these ids were looked at, from the first, and the states of those that live, pickled."""
    found: list[tuple[str, dict[str, Any]]] = []
    size = looked_at = 0
    for entity_id in ids:
        looked_at += 1
        hosted = live.hosted(entity_type)
        activation = None if hosted is None else hosted.live.get(entity_id)
        state = None if activation is None else await _state_of(activation)
        if state is None:
            continue  # let go since its id was told
        found.append((entity_id, state))
        size += sum(map(_size, state.values()))
        if size > _CHUNK_BYTES:
            break
    return looked_at, pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)


async def _state_of(activation: Activation) -> dict[str, Any] | None:
    """What an entity holds; one with a process of its own is asked there."""
    if not activation.hosted.apart:
        return state_of(activation.entity)
    if activation.phase is Phase.STARTING:
        return None
    annex: Any = activation.entity
    try:
        state: dict[str, Any] | None = await annex.states()
    except AnnexLost:
        return None
    return state


def state_of(entity: Entity) -> dict[str, Any]:
    """The public attributes of an entity of this process, as they travel."""
    return {name: value if type(value) in Atoms else _packed(value) for name, value in _public(entity)}


def _size(value: Any) -> int:
    if isinstance(value, _Pickled):
        return len(value.data)
    return len(value) if isinstance(value, str | bytes) else 0


def states_from(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entity's id and its public attributes, from what `read_states` pickled."""
    for entity_id, state in pickle.loads(data):
        for name, value in state.items():
            if isinstance(value, _Pickled):
                state[name] = _unpacked(value)
        yield entity_id, state


def _public(entity: Entity) -> Iterator[tuple[str, Any]]:
    # A copy, since a blocking handler may set attributes at this very moment.
    for name, value in list(getattr(entity, "__dict__", {}).items()):
        if not name.startswith("_"):
            yield name, value
    for cls in type(entity).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("_") and hasattr(entity, name):
                yield name, getattr(entity, name)


def _packed(value: Any) -> _Pickled | str:
    # The user's own code runs in either, and must not end the runner whatever it raises.
    try:
        return _Pickled(_codec.pack(value).data, type(value).__name__)
    except BaseException:
        pass
    try:
        return repr(value)
    except BaseException as raised:
        return f"<{type(value).__name__}, whose repr raised {type(raised).__name__}>"


def _unpacked(value: _Pickled) -> Any:
    try:
        return pickle.loads(value.data)
    except Exception as raised:
        return f"<{value.kind}, which cannot be unpickled here: {raised}>"
