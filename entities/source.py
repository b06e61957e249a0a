"""Which source an entity type stands for: its class, and all that it mentions of the code written along with it.

Decides what counts as the same code. Only text counts where there is a file, never a value or bytecode: the same
script says the same in every run and every process, and a comment changes nothing. What was typed at a prompt or made
by a function has no file; there the code objects and plain values are what there is.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["class_digest", "is_installed", "is_ours"]

_OURS = {"cluster_app", "entities", "observe"}
_ATOMS = (int, str, float, bool, bytes, complex, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TURNS = 10
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def class_digest(cls: type[Any], salt: str = "") -> str:
    """The digest of a class's code; `salt` is part of it."""
    code = _Code(cls.__module__)
    for ancestor in cls.__mro__[:-1]:
        code.take_class(ancestor)
    digest = hashlib.blake2b(salt.encode(), digest_size=16)
    for part in sorted(code.parts):
        digest.update(part.encode())
    return digest.hexdigest()


def is_ours(name: str) -> bool:
    """Whether a module comes with this project, and so is at every runner, in this very version."""
    return name.partition(".")[0] in _OURS


def is_installed(path: str) -> bool:
    """Whether a file came with an installed package, rather than from its author's own folder."""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)


class _Module:
    """What a module's text defines at its top level, and what it imports there."""

    def __init__(self, name: str, path: str) -> None:
        self.path = os.path.realpath(path)
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        found = sys.modules[name]
        self._package = getattr(found, "__package__", None) or ""
        self._read(_parsed(Path(path).read_bytes()).body)

    def _read(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, _Definition):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self.imports[alias.asname or top] = (alias.name if alias.asname else top, None)
            elif isinstance(node, ast.ImportFrom):
                try:
                    relative = "." * node.level + (node.module or "")
                    source = importlib.util.resolve_name(relative, self._package)
                except ImportError:
                    continue
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (source, alias.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                for name in _stored(node):
                    self.definitions.setdefault(name, []).append(node)
            else:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.stmt):
                        self._read([child])
                    elif isinstance(child, ast.ExceptHandler):
                        self._read(child.body)

    def defines(self, cls: type[Any]) -> bool:
        """Whether the class at hand is the one that the text defines, not one made by `exec` under its name."""
        nodes = self.definitions.get(cls.__qualname__.partition(".")[0], ())
        if "<locals>" in cls.__qualname__ or not nodes:
            return False
        lines = [
            value.__code__.co_firstlineno
            for value in vars(cls).values()
            if isinstance(value, FunctionType) and os.path.realpath(value.__code__.co_filename) == self.path
        ]
        return not lines or any(
            _first(node) <= line <= (node.end_lineno or 0) for node in nodes for line in lines
        )


_parsing = threading.RLock()


def _parsed(text: bytes) -> ast.Module:
    # Python 3.11 has one count of the depth for all threads: two that parse at one time can disturb each other, and one
    # is told of a SystemError ("recursion depth mismatch"). Ours take turns; another's may still come in between.
    with _parsing:
        for _ in range(_TURNS):
            with contextlib.suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


@functools.lru_cache(1000)
def _read_module(name: str, path: str, changed_at: int) -> _Module | None:
    try:
        return _Module(name, path)
    except (OSError, SyntaxError, ValueError):
        return None


def _module(name: str) -> _Module | None:
    path = getattr(sys.modules.get(name), "__file__", None)
    if not path or not path.endswith(".py"):
        return None
    try:
        return _read_module(name, path, os.stat(path).st_mtime_ns)
    except OSError:
        return None


def _root(name: str) -> str | None:
    """The folder that a module's top level was imported from; None for what is installed or built in."""
    if name == "__main__":
        main = sys.modules["__main__"]
        path = getattr(main, "__file__", None)
        if path is None:
            return os.getcwd()
        spec = getattr(main, "__spec__", None)
        depth = spec.name.count(".") if spec is not None else 0
        return str(Path(os.path.realpath(path)).parents[depth])
    path = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    if not path or is_installed(path):
        return None
    folder = Path(os.path.realpath(path)).parent
    return str(folder.parent if Path(path).name == "__init__.py" else folder)


class _Code:
    """Collects the code that belongs together, from one class on."""

    def __init__(self, home: str) -> None:
        self.parts: set[str] = set()
        self._top = home.partition(".")[0]
        self._root = _root(home)
        self._seen: set[Any] = set()

    def _belongs(self, module: object) -> bool:
        if not isinstance(module, str) or not module:
            return False
        top = module.partition(".")[0]
        if top == self._top:
            return True
        if top in sys.stdlib_module_names or is_ours(top):
            return False
        return self._root is not None and _root(module) == self._root

    def _once(self, key: Any) -> bool:
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    # -- by text

    def _take_name(self, module: _Module, path: list[str]) -> None:
        """What a module's text means by a dotted name."""
        name, *rest = path
        if name in module.definitions:
            if self._once((module.path, name)):
                for node in module.definitions[name]:
                    self.parts.add(f"{name}\n{ast.dump(node)}")
                    self._take_mentions(module, node)
            return
        source, attribute = module.imports.get(name, ("", None))
        if attribute is not None:
            rest = [attribute, *rest]
        while rest and f"{source}.{rest[0]}" in sys.modules:  # as far as it names modules
            source, rest = f"{source}.{rest[0]}", rest[1:]
        if rest and self._belongs(source):
            target = _module(source)
            if target is not None and self._once((target.path, *rest, "mentioned")):
                self._take_name(target, rest)

    def _take_mentions(self, module: _Module, node: ast.AST) -> None:
        for each in ast.walk(node):
            if isinstance(each, ast.Attribute):
                dotted = ast.unparse(each)
                if all(part.isidentifier() for part in dotted.split(".")):
                    self._take_name(module, dotted.split("."))
            elif isinstance(each, ast.Name):
                self._take_name(module, [each.id])

    # -- by what is there

    def take_class(self, cls: type[Any]) -> None:
        """A class: its text, or what is there of it."""
        if not self._belongs(cls.__module__) or not self._once(cls):
            return
        module = _module(cls.__module__)
        if module is not None and module.defines(cls):
            self._take_name(module, [cls.__qualname__.partition(".")[0]])
            return
        self.parts.add(f"class {cls.__qualname__} {[base.__qualname__ for base in cls.__bases__]}")
        for name, value in sorted(vars(cls).items(), key=lambda item: item[0]):
            if name.startswith("__cluster_"):
                continue
            if name == "__annotations__":
                kinds = {key: getattr(kind, "__qualname__", None) or str(kind) for key, kind in value.items()}
                self.parts.add(f"{cls.__qualname__} {kinds}")
            elif name == "__pydantic_fields__":
                self.parts.add(f"{cls.__qualname__} {_ADDRESS.sub('', str(value))}")
            elif name == "__dataclass_fields__":
                for field in value.values():
                    self._take_value(f"{cls.__qualname__}.{field.name}", field.default_factory)
            elif not name.startswith("__") or isinstance(value, FunctionType):
                self._take_value(f"{cls.__qualname__}.{name}", value)

    def _take_value(self, name: str, value: Any) -> None:
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if isinstance(value, property):
            for function in (value.fget, value.fset, value.fdel):
                if function is not None:
                    self._take_value(name, function)
        elif isinstance(value, enum.Enum):
            self.parts.add(f"{name} = {value.name} {_plain(value.value)}")
            self.take_class(type(value))
        elif isinstance(value, FunctionType):
            self._take_function(name, value)
        elif isinstance(value, type):
            self.parts.add(f"{name} is {value.__qualname__}")
            self.take_class(value)
        elif (text := _plain(value)) is not None:
            self.parts.add(f"{name} = {text}")

    def _take_function(self, name: str, function: FunctionType) -> None:
        self.parts.add(
            f"{name} {_code_facts(function.__code__)} {_plain(function.__defaults__)} "
            f"{_plain(function.__kwdefaults__)}"
        )
        cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        for free, value in zip(function.__code__.co_freevars, cells, strict=False):
            if self._once((id(function), free)):
                self._take_value(free, value)
        for mention in _names(function.__code__):
            if mention in function.__globals__:
                self._take_global(mention, function.__globals__[mention])

    def _take_global(self, name: str, value: Any) -> None:
        if isinstance(value, FunctionType):
            if self._belongs(value.__module__) and self._once(value):
                module = _module(value.__module__)
                if module is not None and name in module.definitions:
                    self._take_name(module, [name])
                else:
                    self._take_function(name, value)
        elif not isinstance(value, ModuleType):
            self._take_value(name, value)


def _stored(node: ast.AST) -> set[str]:
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _first(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if inspect.iscode(constant)]
    return set(code.co_names).union(*inner)


def _code_facts(code: CodeType) -> str:
    # Constants too: a cell run again with another number in it is other code.
    constants = [_code_facts(c) if isinstance(c, CodeType) else _plain(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def _plain(value: Any) -> str | None:
    """A value as text, if it is made of numbers and texts alone."""
    if isinstance(value, _ATOMS):
        return repr(value)
    if isinstance(value, frozenset | set):
        return str(sorted(map(repr, value)))  # sets have no order
    if isinstance(value, tuple | list):
        return str([_plain(each) for each in value])
    if isinstance(value, dict):
        return str({_plain(key): _plain(each) for key, each in value.items()})
    return None
