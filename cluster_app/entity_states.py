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
from entities.activation import Phase
from entities.annex import AnnexLost
from entities.entity_class import Entity
from entities.host import EntityHost

__all__ = ["CHUNK", "living_ids", "read_states", "read_states_apart", "states_from"]

CHUNK = 1_000  # entities asked for at a time: a runner's event loop has a turn after some milliseconds
_CHUNK_BYTES = 4_000_000  # what is read at a time once states are large

_codec = Codec()  # as messages travel: what arrives is of the reader's own classes


class _Pickled(NamedTuple):
    """A value that is no atom, and the name of its type."""

    data: bytes
    kind: str


def living_ids(host: EntityHost, entity_type: str) -> list[str]:
    """The ids of the living entities of a type."""
    hosted = host.hosted(entity_type)
    return [] if hosted is None else list(hosted.live)


def read_states(host: EntityHost, entity_type: str, ids: Sequence[str]) -> tuple[int, bytes]:
    """How many of these ids were looked at, from the first, and the states of those that live, pickled."""
    hosted = host.hosted(entity_type)
    live = {} if hosted is None else hosted.live
    found: list[tuple[str, dict[str, Any]]] = []
    size = looked_at = 0
    for entity_id in ids:
        looked_at += 1
        activation = live.get(entity_id)
        if activation is None:
            continue  # let go since its id was told
        state: dict[str, Any] = {}
        for name, value in _public(activation.entity):
            if type(value) not in Atoms:
                value = _packed(value)
            if isinstance(value, _Pickled):
                size += len(value.data)
            elif isinstance(value, str | bytes):
                size += len(value)
            state[name] = value
        found.append((entity_id, state))
        if size > _CHUNK_BYTES:
            break
    return looked_at, pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)


async def read_states_apart(host: EntityHost, entity_type: str, ids: Sequence[str]) -> tuple[int, bytes]:
    """The same as `read_states` for entities that each have a process of their own, which is asked."""
    hosted = host.hosted(entity_type)
    live = {} if hosted is None else hosted.live
    found: list[Any] = []
    size = looked_at = 0
    for entity_id in ids:
        looked_at += 1
        activation = live.get(entity_id)
        if activation is None or activation.phase is Phase.STARTING or not activation.hosted.apart:
            continue  # the last: of older code, which had none
        annex: Any = activation.entity
        try:
            data: bytes = await annex.states()
        except AnnexLost:
            continue
        found.extend(pickle.loads(data))
        size += len(data)
        if size > _CHUNK_BYTES:
            break
    return looked_at, pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)


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
