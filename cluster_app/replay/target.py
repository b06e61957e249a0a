"""Which entity class and message a replay feeds: ``module:Class`` and a method's name, found and checked.

It decides what makes a class and a method usable, and says what is wrong with those that are not. It binds
no columns.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from cluster_app.replay.refusal import Refusal
from entities import Entity
from entities.declaration import define

__all__ = ["Target", "declared_messages", "find_target", "type_name"]


@dataclass(frozen=True, slots=True)
class Target:
    """An entity class and the name of one of its declared messages."""

    kind: type[Entity]
    method: str

    @property
    def signature(self) -> inspect.Signature:
        """The message's parameters, without ``self``, annotations resolved.

        Raises Refusal when an annotation cannot be resolved.
        """
        try:
            full = inspect.signature(getattr(self.kind, self.method), eval_str=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise Refusal(
                f"the annotations of {self.kind.__name__}.{self.method} cannot be resolved: {error}",
                hint="import the types it names at run time, not only under TYPE_CHECKING",
            ) from error
        return full.replace(parameters=list(full.parameters.values())[1:])


def find_target(spec: str, method: str) -> Target:
    """Import ``module:Class`` and find its message. Modules of the current folder count.

    Raises Refusal for a bad spec, a missing module, class or method, a class that is no entity and a method
    that is not declared.
    """
    module_name, separator, class_name = spec.partition(":")
    if not separator or not module_name or not class_name:
        raise Refusal(
            f"--entity {spec!r} is not module:Class", hint="for instance fleet.cars:Car", exit_code=2
        )
    module = _import(module_name)
    kind = getattr(module, class_name, None)
    if kind is None:
        entities = [name for name, value in vars(module).items() if _is_entity(value)]
        raise Refusal(
            f"module {module_name} has no class {class_name}",
            hint=_choice("entities there", class_name, entities),
        )
    if not _is_entity(kind):
        raise Refusal(
            f"{spec} is not an entity",
            hint=f"declare it: @entity() class {class_name}(Entity), with @message methods",
        )
    try:
        declared = declared_messages(kind)
    except TypeError as error:
        raise Refusal(str(error)) from error
    if method not in declared:
        problem = "has no method" if not hasattr(kind, method) else "does not declare as a message:"
        raise Refusal(
            f"{class_name} {problem} {method}", hint=_choice("messages it declares", method, declared)
        )
    return Target(kind, method)


def declared_messages(kind: type[Entity]) -> list[str]:
    """The names of the messages a class declares or inherits, sorted."""
    return sorted(define(kind).messages)


def type_name(kind: type[Entity]) -> str:
    """The name of an entity type, as it stands in addresses and labels."""
    return define(kind).name


def _is_entity(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Entity) and value is not Entity


def _import(module_name: str) -> ModuleType:
    # A console script's path starts at the script's folder; the user's module is beside the data.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise Refusal(
                f"there is no module {missing}",
                hint="run from the folder that holds it, or install its package",
            ) from error
        raise Refusal(f"module {module_name} needs {missing}, which is not installed") from error
    except Exception as error:
        raise Refusal(
            f"importing {module_name} failed: {type(error).__name__}: {error}",
            hint=f"try: python -c 'import {module_name}'",
        ) from error


def _choice(what: str, wanted: str, names: Iterable[str]) -> str:
    known = sorted(names)
    if not known:
        return f"there are no {what}"
    close = difflib.get_close_matches(wanted, known, n=1)
    return f"{what}: {', '.join(known)}" + (f"; did you mean {close[0]}?" if close else "")
