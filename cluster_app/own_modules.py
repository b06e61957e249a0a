"""Which modules are the driver's own, and which of them a runner has as well.

Decides what is asked about, and when a runner has the very same: it would import that source now, or has done so. A
module of the driver's own that nobody was asked about, and each that depends on one that a runner lacks, travels by
value. Installed packages are taken to be installed at the runners too, except the one that an entity type comes from:
that is asked about like the driver's own.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from types import ModuleType
from typing import Any

from entities.source import is_installed, is_ours

__all__ = [
    "are_loaded",
    "begin",
    "by_value",
    "heard",
    "is_driving",
    "missing",
    "pin",
    "related",
    "to_ask",
]

_BEGAN = time.time()

_sources: dict[str, str] = {}  # of loaded modules, as they were when first looked at
_own: dict[str, bool] = {}
_packages: set[str] = set()  # of registered entity types
_held: set[str] = set()  # what every runner has
_lacking: set[str] = set()
_driving: list[bool] = []
_hosting: list[bool] = []


def begin() -> None:
    """This process sends what no runner has been asked about: from now on its own modules travel by value.

    Not so in a runner, whose code came from the cluster.
    """
    if not _hosting:
        _driving[:] = [True]


def host() -> None:
    """This process is a runner."""
    _hosting[:] = [True]


def is_driving() -> bool:
    """Whether `begin` was called here: what this process has of its own, it has not from the cluster."""
    return bool(_driving)


def source_of(name: str) -> str:
    """The digest of a loaded module's file, as it was when first asked for; empty if it has none."""
    known = _sources.get(name)
    if known is None:
        known = _sources[name] = _digest(_file(sys.modules.get(name)))
    return known


def by_value(name: Any) -> bool:
    """Whether what this loaded module defines has to travel with its code."""
    if name in _lacking:
        return True
    return bool(_driving) and name not in _held and isinstance(name, str) and _is_own(name)


def to_ask(cls: type[Any]) -> dict[str, str]:
    """What the runners must be asked about before this entity type is shipped: see `related`."""
    _packages.add(_top(cls.__module__))
    return related(cls)


def related(cls: type[Any]) -> dict[str, str]:
    """The modules of the driver's own that a class depends on, each with the digest of its source."""
    waiting = [each.__module__ for each in cls.__mro__[:-1]]
    found: dict[str, str] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if _is_own(name):
            found[name] = source_of(name)
        if _is_own(name) or name == "__main__":
            waiting.extend(_dependencies(name))
    return found


def heard(asked: Iterable[str], lacking: Collection[str]) -> set[str]:
    """What the runners lack is known now. Returns what has to travel by value for that reason."""
    names = set(asked)
    missing_now = set(lacking)
    dependents = {name: _dependencies(name) & names for name in names}
    while more := {n for n in names - missing_now if dependents[n] & missing_now}:
        missing_now |= more
    _lacking.update(missing_now)
    _held.update(names - missing_now)
    return missing_now


# -- at a runner


def missing(sources: Mapping[str, str]) -> list[str]:
    """The modules that this process has not, or would not import, from that very source. Runs none of them."""
    importlib.invalidate_caches()
    return [name for name, digest in sources.items() if not _has(name, digest)]


def pin(sources: Mapping[str, str]) -> None:
    """These are about to be imported: should their files change from now on, what is loaded is still this source."""
    for name, digest in sources.items():
        _sources.setdefault(name, digest)


def are_loaded(sources: Mapping[str, str]) -> bool:
    """Whether this process has imported these modules, each from that very source."""
    return all(name in sys.modules and _has(name, digest) for name, digest in sources.items())


def _has(name: str, digest: str) -> bool:
    if not digest:
        return False
    module = sys.modules.get(name)
    if module is None:
        return _digest(_importable_file(name)) == digest
    known = _sources.get(name)
    if known is None:
        path = _file(module)
        # Nobody looked when it was imported: if its file was written since, that may have been another text.
        if not path or _written_at(path) >= _BEGAN:
            return False
        known = _sources[name] = _digest(path)
    return known == digest


def _importable_file(name: str) -> str:
    """Where `import` would find it, without importing its parents."""
    path: Any = None
    origin = ""
    for depth in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:depth])
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(part, path) if find is not None else None
            if spec is not None:
                break
        else:
            return ""
        path, origin = spec.submodule_search_locations, spec.origin or ""
        if depth <= name.count(".") and path is None:
            return ""
    return origin


def _file(module: ModuleType | None) -> str:
    path = getattr(module, "__file__", None)
    return path if isinstance(path, str) and path.endswith(".py") else ""


def _digest(path: str) -> str:
    if not path:
        return ""
    try:
        with open(path, "rb") as source:
            return hashlib.blake2b(source.read(), digest_size=16).hexdigest()
    except OSError:
        return ""


def _written_at(path: str) -> float:
    try:
        status = os.stat(path)
    except OSError:
        return float("inf")
    return max(status.st_mtime, status.st_ctime)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_own(name: str) -> bool:
    known = _own.get(name)
    if known is None:
        if name == "__main__" or is_ours(name) or _top(name) in sys.stdlib_module_names:
            known = False
        else:
            path = _file(sys.modules.get(name))
            if path and is_installed(path):
                return _top(name) in _packages  # types may yet be registered from it
            known = bool(path)
        if name in sys.modules:
            _own[name] = known
    return known


def _dependencies(name: str) -> set[str]:
    """The loaded modules that a module's names come from, and the packages it lies in."""
    module = sys.modules.get(name)
    parts = name.split(".")
    found = {".".join(parts[:depth]) for depth in range(1, len(parts))}
    for value in list(vars(module).values()) if module is not None else ():
        if isinstance(value, ModuleType):
            found.add(value.__name__)
        else:
            for each in (getattr(value, "__module__", None), type(value).__module__):
                if isinstance(each, str):
                    found.add(each)
    return {each for each in found if each in sys.modules and each != name}
