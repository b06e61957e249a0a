"""How an entity type's code reaches a runner.

Decides between reference and value: a class is shipped by reference where the runners import the very same source of
it and of what it depends on, else by value, with its code. Whether two definitions are the same is told by their
digest, of source and options: pickle bytes differ from run to run. Decides as well who may replace whom: nobody,
unless asked to, but a notebook or a prompt its own earlier definition.
"""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster_app import own_modules
from entities.declaration import EntityDefinition, define
from entities.errors import describe
from entities.source import is_ours

__all__ = [
    "Conditions",
    "RuntimeEnvMismatch",
    "ShippedType",
    "TypeConflict",
    "check_runtime_env",
    "load",
    "prompt",
    "ship",
]

# What of a runtime_env decides which entities can run. Files (working_dir, py_modules) do not: code is compared by its
# source and travels by value where it differs.
_ENVIRONMENT = ("pip", "uv", "conda", "py_executable", "image_uri", "container", "worker_process_setup_hook")


class TypeConflict(ValueError):
    """The name is taken by other code."""


class RuntimeEnvMismatch(ValueError):
    """The code asks for another Ray `runtime_env` than the runners have."""


class ShippedType(NamedTuple):
    """An entity type on its way.

    :ivar origin: the notebook or prompt that it was typed at; empty for code from a file.
    :ivar sources: digests of the modules that must be imported from that very source.
    :ivar by_value: the class with its code, pickled; empty when it travels by reference.
    """

    name: str
    group: str
    digest: str
    module: str
    qualname: str
    origin: str
    sources: Mapping[str, str]
    by_value: bytes


class Conditions(NamedTuple):
    """What a driver must know to ship a type.

    :ivar digest: of the code that has the name; empty if none has.
    :ivar lacking: the modules asked about that some runner would not import from that source.
    :ivar runtime_env: of the runners.
    """

    digest: str
    lacking: list[str]
    runtime_env: Mapping[str, Any]


def ship(definition: EntityDefinition, asked: Mapping[str, str], lacking: list[str]) -> ShippedType:
    """Wrap a definition, given what the runners lack of the modules they were asked about.

    :raises TypeError: it has to travel by value and its code cannot be pickled.
    """
    from cluster_app.carrying import carried, forget_ways, travels_by_nature, write_class

    cls = definition.cls
    by_value = own_modules.heard(asked, lacking)
    forget_ways()
    code = b""
    if cls.__module__ in by_value or travels_by_nature(cls):
        try:
            way = carried(cls)
            if not isinstance(way, tuple):
                write_class(cls)  # raises why it cannot be carried
            code = pickle.dumps(way[1])
        except Exception as raised:
            why = (
                f"the runners have another {cls.__module__}, or none"
                if lacking
                else "no runner can import it"
            )
            raise TypeError(
                f"entity type {definition.name!r} ({cls.__module__}.{cls.__qualname__}) has to travel with its code "
                f"({why}), and that cannot be pickled: {describe(raised)}; keep what cannot be pickled out of the "
                "module's top level, or have the module installed at the runners"
            ) from raised
    return ShippedType(
        definition.name,
        definition.options.group,
        definition.digest,
        cls.__module__,
        cls.__qualname__,
        prompt(cls.__module__),
        {} if code else {name: digest for name, digest in asked.items() if name not in by_value},
        code,
    )


def load(shipped: ShippedType) -> EntityDefinition:
    """The definition from what was shipped.

    :raises ImportError: a module is not, or no longer, to be had from the source that was registered.
    Raises whatever else importing or unpickling raises.
    """
    cls: Any
    if shipped.by_value:
        from cluster_app.carrying import open_class  # cloudpickle; not where the class can be imported

        cls = open_class(*pickle.loads(shipped.by_value))
    else:
        if missing := own_modules.missing(shipped.sources):
            raise ImportError(
                f"{', '.join(missing)}: not the source that {shipped.name!r} was registered from; connect from a "
                "driver that has it and register the type again"
            )
        own_modules.pin(shipped.sources)
        cls = importlib.import_module(shipped.module)
        for name in shipped.qualname.split("."):
            cls = getattr(cls, name)
    return define(cls).as_shipped(shipped.digest)


def prompt(module: str) -> str:
    """The notebook or prompt that a class of this module was typed at; empty for code from a file.

    A notebook is known by its path, so it is the same after a restart of its kernel; a prompt is a process.
    """
    main = sys.modules.get("__main__")
    if module != "__main__" or (getattr(main, "__file__", None) and not hasattr(sys, "ps1")):
        return ""
    path = os.environ.get("JPY_SESSION_NAME") or getattr(main, "__vsc_ipynb_file__", "")
    return f"{socket.gethostname()}:{path or os.getpid()}"


def check_runtime_env(
    definition: EntityDefinition, job: Mapping[str, Any], runners: Mapping[str, Any]
) -> None:
    """Refuse code whose environment the runners cannot give.

    :raises RuntimeEnvMismatch: naming what differs and what to do.
    """
    # One with a process of its own gets that there.
    option = definition.options.runtime_env if definition.options.hosting != "actor" else None
    if is_ours(definition.cls.__module__):
        job = {}  # it needs nothing that a job brings
    for asking, wanted, keys in (
        ("this job", job, _ENVIRONMENT),
        ("@entity", option or {}, [key for key in option or {} if key != "env_vars"]),
    ):
        differing = [key for key in keys if key in wanted and wanted[key] != runners.get(key)]
        have = runners.get("env_vars") or {}
        variables = wanted.get("env_vars") or {}
        differing += [f"env_vars[{name!r}]" for name in variables if variables[name] != have.get(name)]
        if differing:
            raise RuntimeEnvMismatch(
                f"entity type {definition.name!r}: the runtime_env of {asking} differs from the runners' in "
                f"{', '.join(differing)}; runners keep the runtime_env of the job that started the service: connect "
                "to a namespace of its own, or end this service with `cluster-app down` and connect with that "
                "runtime_env first"
            )
