"""Who a message is for: the pair of an entity type and an entity id.

Decides what a valid id is. Does not decide where the entity lives: that is the shard map's work.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MAX_ID_BYTES", "EntityAddress", "check_entity_id"]

MAX_ID_BYTES = 512


class EntityAddress(NamedTuple):
    """An entity type's name and an entity id; printed as ``Aircraft/N14228``.

    The id may hold any character, the type none of ``/``: so the printed form can be read back.
    """

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> EntityAddress:
        """Read the printed form back. Raises ValueError when there is no type or a bad id."""
        entity_type, separator, entity_id = text.partition("/")
        if not separator or not entity_type:
            raise ValueError(f"not an entity address: {text!r}; expected 'Type/id'")
        return cls(entity_type, check_entity_id(entity_id))


def check_entity_id(entity_id: str) -> str:
    """Return the id as a plain ``str``, or raise ValueError saying what is wrong with it.

    An id is a non-empty ``str`` of at most 512 bytes in UTF-8: it is repeated in every envelope, so it stays small.
    One of a derived class, a member of an enum for one, is taken for its text: elsewhere the class may be unknown.
    """
    if not isinstance(entity_id, str):
        raise ValueError(f"an entity id is a str, not {type(entity_id).__name__}: {entity_id!r}")
    entity_id = str.__str__(entity_id)
    if not entity_id:
        raise ValueError("an entity id must not be empty")
    # A character takes at most four bytes: short ids, nearly all there are, need no encoding here.
    if len(entity_id) * 4 > MAX_ID_BYTES or not entity_id.isascii():
        try:
            size = len(entity_id.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"an entity id must be valid Unicode: {error}") from None
        if size > MAX_ID_BYTES:
            raise ValueError(f"an entity id has at most {MAX_ID_BYTES} bytes; this one has {size}")
    return entity_id
