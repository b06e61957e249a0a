"""How an entity type's code reaches a runner.

Decides between reference and value: a class is shipped by reference where the cluster can import the very same
source, and by value (pickled with its code) when it comes from ``__main__`` or from a module the cluster does not
have. Whether two definitions are the same is told by their digest, of source and options: pickle bytes differ from
run to run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pickle
import sys
from typing import Any, NamedTuple

import cloudpickle

from entities.declaration import EntityDefinition, define

__all__ = ["ShippedType", "TypeConflict", "goes_by_value", "importable", "load", "ship", "travels_by_value"]


class TypeConflict(ValueError):
    """The name is taken by other code."""


class ShippedType(NamedTuple):
    """An entity type on its way.

    :ivar source_digest: of the module's file; empty when it has none.
    :ivar by_value: the class with its code, pickled; empty when it travels by reference.
    """

    name: str
    group: str
    digest: str
    module: str
    qualname: str
    source_digest: str
    by_value: bytes


def travels_by_value(module: str) -> None:
    """From now on, pickle by value what comes from this module: the cluster cannot import it."""
    found = sys.modules.get(module)
    if found is not None and module != "__main__":
        cloudpickle.register_pickle_by_value(found)


def goes_by_value(module: str) -> bool:
    """Whether what comes from this module is pickled by value."""
    return module in cloudpickle.list_registry_pickle_by_value()


def ship(definition: EntityDefinition, *, by_value: bool) -> ShippedType:
    """Wrap a definition. Raises what pickling raises if its code cannot be pickled."""
    cls = definition.cls
    data = b""
    if by_value:
        travels_by_value(cls.__module__)
        data = cloudpickle.dumps(cls)
    return ShippedType(
        definition.name,
        definition.options.group,
        definition.digest,
        cls.__module__,
        cls.__qualname__,
        "" if "<locals>" in cls.__qualname__ else _source_digest(cls.__module__),
        data,
    )


def importable(shipped: ShippedType) -> bool:
    """Whether this process would import the very same source under that name. Runs none of it."""
    return bool(shipped.source_digest) and shipped.source_digest == _source_digest(shipped.module)


def load(shipped: ShippedType) -> EntityDefinition:
    """The definition from what was shipped. Raises whatever importing or unpickling raises."""
    if shipped.by_value:
        cls: Any = pickle.loads(shipped.by_value)
    else:
        cls = importlib.import_module(shipped.module)
        for name in shipped.qualname.split("."):
            cls = getattr(cls, name)
    definition = define(cls)
    # The digest names the code that was registered; where the source is not at hand it would come out otherwise.
    return EntityDefinition(
        definition.name, definition.cls, definition.options, definition.messages, shipped.digest
    )


def _source_digest(module: str) -> str:
    if module == "__main__":
        return ""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.origin or not spec.has_location:
            return ""
        with open(spec.origin, "rb") as source:
            return hashlib.blake2b(source.read(), digest_size=16).hexdigest()
    except (ImportError, OSError, ValueError, AttributeError):
        return ""
