"""Ray's GCS as a key-value store."""

from __future__ import annotations

from ray.experimental import internal_kv

from cluster_app.kv import KeyValueUnavailable

__all__ = ["RayKeyValue", "remove_all"]

_NAMESPACE = "cluster_app"


class RayKeyValue:
    """Keys of one cluster, in the GCS. A put without overwrite is atomic there."""

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        try:
            value: bytes | None = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
        except Exception as error:
            raise KeyValueUnavailable(f"the GCS did not answer: {error}") from error
        return value

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        """Store it; False if it was there and stays as it was."""
        try:
            there = internal_kv._internal_kv_put(key, value, overwrite, namespace=_NAMESPACE)
        except Exception as error:
            raise KeyValueUnavailable(f"the GCS did not answer: {error}") from error
        return overwrite or not there

    def delete(self, key: str) -> None:
        """Remove it, if it is there."""
        try:
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
        except Exception as error:
            raise KeyValueUnavailable(f"the GCS did not answer: {error}") from error

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        try:
            found = internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE)
        except Exception as error:
            raise KeyValueUnavailable(f"the GCS did not answer: {error}") from error
        return sorted(key.decode() if isinstance(key, bytes) else key for key in found)


def remove_all(prefix: str) -> None:
    """Remove every key that begins so. Raises KeyValueUnavailable."""
    store = RayKeyValue()
    for key in store.keys(prefix):
        store.delete(key)
