"""The small store that outlives a coordinator, as a port.

Decides what ownership may ask of it: atomic put, delete and list of a few small keys, each seeing all that
was written before it (linearizable). The Ray edge implements it with the GCS; `MemoryKeyValue` is its twin
for one process.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["KeyValue", "KeyValueUnavailable", "MemoryKeyValue"]


class KeyValueUnavailable(ConnectionError):
    """The store gave no answer. A put or delete that raised this may have happened all the same."""


class KeyValue(Protocol):
    """What an implementation offers.

    Every method raises `KeyValueUnavailable` when the store does not answer.
    """

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        """Write; False, and nothing written, when the key exists and may not be overwritten. Atomic."""
        ...

    def delete(self, key: str) -> None:
        """Remove the key; nothing happens when there is none."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """The keys that start with the prefix, in any order."""
        ...


class MemoryKeyValue:
    """A `KeyValue` in a dict. `available` set to False makes every call raise, as a lost store does."""

    def __init__(self) -> None:
        self.available = True
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        return self._reachable().get(key)

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        """Write; False, and nothing written, when the key exists and may not be overwritten."""
        values = self._reachable()
        if key in values and not overwrite:
            return False
        values[key] = value
        return True

    def delete(self, key: str) -> None:
        """Remove the key; nothing happens when there is none."""
        self._reachable().pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        """The keys that start with the prefix, sorted."""
        return sorted(key for key in self._reachable() if key.startswith(prefix))

    def _reachable(self) -> dict[str, bytes]:
        if not self.available:
            raise KeyValueUnavailable("the key-value store does not answer")
        return self._values
