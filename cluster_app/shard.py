"""Which shard an address belongs to, and how a shard is named.

Decides the cut of the id space into shards. Does not decide who owns one: that is `shard_map` and
`coordinator`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

__all__ = ["ShardId", "check_group", "shard_number", "shards_of"]


class ShardId(NamedTuple):
    """One slice of a group's id space, the unit that moves; printed as ``group:number``.

    A named tuple, because every message looks its shard up in a dict and a tuple hashes in C.
    """

    group: str
    number: int

    def __str__(self) -> str:
        return f"{self.group}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> ShardId:
        """Read the printed form back. Raises ValueError for anything `str` cannot have printed."""
        group, separator, digits = text.partition(":")
        if not separator or not (digits.isascii() and digits.isdigit()) or str(int(digits)) != digits:
            raise ValueError(f"not a shard: {text!r}; expected 'group:number'")
        return cls(check_group(group), int(digits))


def check_group(group: str) -> str:
    """Return the group's name, or raise ValueError: it is not empty and has no ``:``, so that a shard can be
    parsed.
    """
    if not group or ":" in group:
        raise ValueError(f"a shard group is a non-empty name without ':', not {group!r}")
    return group


def shards_of(group: str, shards: int) -> tuple[ShardId, ...]:
    """All shards of a group, in order. Raises ValueError for a bad group name or fewer than one shard."""
    check_group(group)
    if shards < 1:
        raise ValueError(f"a group has at least one shard, not {shards}")
    return tuple(ShardId(group, number) for number in range(shards))


def shard_number(entity_type: str, entity_id: str, shards: int) -> int:
    """The number, in ``range(shards)``, of the shard that holds an entity.

    Stable across processes, machines and versions (golden values pin it): BLAKE2b of the type's length, the
    type and the id. The length makes the encoding unambiguous: ("ab", "c") and ("a", "bc") are different
    inputs.
    """
    name = entity_type.encode()
    digest = blake2b(b"%d:%b%b" % (len(name), name, entity_id.encode()), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards
