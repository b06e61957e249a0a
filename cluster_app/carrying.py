"""How a class travels that its receiver may not be able to import.

Decides that one class of the sender is one class at the receiver, however often and from however many drivers it
comes, and that what comes back is the sender's own. A class has an identity, of its name and its source. It travels as
that identity with its code beside it; the code is read only where no class of that identity is known yet, and a class
that is there is never written to.

cloudpickle does the rest, and alone would do otherwise: a random identity in each driver, and each message that brings
a class sets all attributes of the receiver's anew.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import cloudpickle
from cloudpickle import cloudpickle as by_code

from cluster_app import own_modules
from entities.declaration import EntityDefinition
from entities.source import class_digest

__all__ = ["CodePickler", "carried", "forget_ways", "open_class", "travels_by_nature", "write_class"]

_identities: weakref.WeakKeyDictionary[type[Any], str] = weakref.WeakKeyDictionary()
_known: weakref.WeakValueDictionary[str, type[Any]] = weakref.WeakValueDictionary()
_kept: deque[type[Any]] = deque(maxlen=4096)  # classes that came: they live on between two messages
_ways: weakref.WeakKeyDictionary[type[Any], Any] = weakref.WeakKeyDictionary()
_opening = threading.RLock()
_begun: list[type[Any]] = []
_MADE = (by_code._make_skeleton_class, by_code._make_skeleton_enum)
_FROM_FILE = ("__builtins__", "__cached__", "__loader__", "__spec__")


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by value what the receivers cannot import, or have not been asked about."""

    def reducer_override(self, obj: Any) -> Any:
        """How an object is pickled, where it is not as usual."""
        if isinstance(obj, type):
            way = self._way_of(obj)
            if way is not None:
                return way
        elif isinstance(obj, FunctionType):
            if own_modules.by_value(obj.__module__):
                return self._dynamic_function_reduce(obj)
        elif isinstance(obj, ModuleType):
            if own_modules.by_value(obj.__name__):
                names = {name: value for name, value in vars(obj).items() if name not in _FROM_FILE}
                return by_code.dynamic_subimport, (obj.__name__, names)
        elif isinstance(obj, TypeVar) and own_modules.by_value(obj.__module__):
            return by_code._make_typevar, by_code._decompose_typevar(obj)
        return super().reducer_override(obj)

    def _way_of(self, cls: type[Any]) -> Any:
        return carried(cls)


class _Writer(CodePickler):
    """Pickles one class with all the code it needs, in one piece: so these classes may mention each other."""

    def _way_of(self, cls: type[Any]) -> Any:
        code = _by_code(cls)
        if code is None:
            return None
        make, arguments, state = code[:3]
        definition = vars(cls).get("__cluster_definition__")
        if isinstance(definition, EntityDefinition):
            _ = definition.digest  # told along: its receiver has no source
        # Without cloudpickle's own identity, which is the last but one: ours takes its place.
        return _begin, (*_name(cls), make, (*arguments[:-2], None, None)), state, None, None, _finish


def carried(cls: type[Any]) -> Any:
    """How a class is pickled into a message: its identity and code, or whatever pickle does with it otherwise."""
    try:
        return _ways[cls]
    except (KeyError, TypeError):
        pass
    way: Any
    try:
        by_itself = _by_code(cls) is not None
        way = (open_class, (*_name(cls), write_class(cls))) if by_itself else by_code._class_reduce(cls)
    except Exception:
        if not by_code._should_pickle_by_reference(cls):
            raise
        return NotImplemented  # its module cannot travel: then it must be there; that may change with what is heard
    with contextlib.suppress(TypeError):  # a metaclass without a hash
        _ways[cls] = way
    return way


def forget_ways() -> None:
    """What is known of the runners has changed: decide anew how each class travels."""
    _ways.clear()


def travels_by_nature(cls: type[Any]) -> bool:
    """Whether a class cannot be imported anywhere: it is of `__main__`, or made by a function."""
    return not by_code._should_pickle_by_reference(cls)


def write_class(cls: type[Any]) -> bytes:
    """The class with the code it needs. Raises what pickling raises."""
    file = io.BytesIO()
    _Writer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(cls)
    return file.getvalue()


def open_class(
    identity: str, module: str, qualname: str, sources: Mapping[str, str], code: bytes
) -> type[Any]:
    """The class of that identity in this process, made from its code if there is none.

    :param sources: a process that imported these modules from these sources has the class already.

    Raises what unpickling raises.
    """
    found = _find(identity, module, qualname, sources)
    if found is not None:
        return found
    with _opening:
        found = _find(identity, module, qualname, sources)
        if found is None:
            before = len(_begun)
            try:
                found = pickle.loads(code)
            except BaseException:
                for half_made in _begun[before:]:
                    _known.pop(_identities.pop(half_made), None)
                raise
            finally:
                del _begun[before:]
            assert isinstance(found, type)
            # It goes on, and back, as it came.
            _ways[found] = open_class, (identity, module, qualname, sources, code)
    return found


def _by_code(cls: type[Any]) -> tuple[Any, ...] | None:
    """cloudpickle's way of pickling a class with its code; None for a class that travels by reference."""
    if own_modules.by_value(cls.__module__):
        return by_code._dynamic_class_reduce(cls)  # type: ignore[no-any-return]
    reduced = by_code._class_reduce(cls)
    return reduced if isinstance(reduced, tuple) and reduced[0] in _MADE else None


def _name(cls: type[Any]) -> tuple[str, str, str, dict[str, str]]:
    here = cls.__module__ != "__main__" and _attribute(cls.__module__, cls.__qualname__) is cls
    return _identity(cls), cls.__module__, cls.__qualname__, own_modules.related(cls) if here else {}


def _identity(cls: type[Any]) -> str:
    identity = _identities.get(cls)
    if identity is None:
        if _attribute(cls.__module__, cls.__qualname__) is cls:
            identity = class_digest(cls, f"{cls.__module__}.{cls.__qualname__}")
        else:
            identity = uuid.uuid4().hex  # made by a function, which may make another with the same text
        _identities[cls] = identity
        _known[identity] = cls
    return identity


def _find(identity: str, module: str, qualname: str, sources: Mapping[str, str]) -> type[Any] | None:
    if module == "__main__" or own_modules.is_driving():
        # What a notebook defines anew with the same text is the same class, and the newest of it is meant.
        here = _attribute(module, qualname)
        if isinstance(here, type) and _identity(here) == identity:
            return here
    known = _known.get(identity)
    if known is None and sources and own_modules.are_loaded(sources):
        # Not told by its identity: the text that was imported may by now be another on the disk.
        here = _attribute(module, qualname)
        if isinstance(here, type):
            known = _known[identity] = here
    return known


def _attribute(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _begin(
    identity: str,
    module: str,
    qualname: str,
    sources: Mapping[str, str],
    make: Any,
    arguments: tuple[Any, ...],
) -> Any:
    with _opening:
        found = _find(identity, module, qualname, sources)
        if found is None:
            found = make(*arguments)
            _identities[found] = identity
            _known[identity] = found
            _kept.append(found)
            _begun.append(found)
        return found


def _finish(cls: type[Any], state: Any) -> None:
    if cls in _begun:
        by_code._class_setstate(cls, state)
