"""What each module offers by name."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

from tests.source import SourceModule, source_modules

PUBLIC = (
    "cluster_app",
    "cluster_app.testing",
    "entities",
    "entities.catalog",
    "observe.metrics",
    "observe.telemetry",
)
"""The modules a user imports from; all others are internal."""

MODULES = source_modules()


def declared(module: SourceModule) -> list[str] | None:
    """The names in the module's ``__all__``; None without one. Only a plain list of strings can be read."""
    for node in module.tree.body:
        # A plain assignment; with an annotation it would be another kind of node, and no module needs one.
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            names = ast.literal_eval(node.value)
            assert isinstance(names, list), f"{module.relative_path}: __all__ is a list"
            return [str(name) for name in names]
    return None


def bound(module: SourceModule) -> set[str]:
    """The names that the module's top level binds, also under ``if`` and ``try``."""
    names: set[str] = set()
    waiting: list[ast.AST] = [module.tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting.extend(ast.iter_child_nodes(node))
    return names


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_exports_sorted_names_that_resolve(name: str) -> None:
    """`__all__` of a public module is sorted, has no repeats and no private names, and each is there."""
    module = importlib.import_module(name)
    exported = list(module.__all__)
    assert exported == sorted(set(exported))
    assert [item for item in exported if item.startswith("_") and item != "__version__"] == []
    assert [item for item in exported if not hasattr(module, item)] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_is_explained(name: str) -> None:
    """Every exported class and function has a docstring of its own."""
    module = importlib.import_module(name)
    silent = [
        item
        for item in module.__all__
        if (inspect.isclass(value := getattr(module, item)) or inspect.isroutine(value)) and not value.__doc__
    ]
    assert silent == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_declared_name_exists(module: SourceModule) -> None:
    """A name in any module's `__all__` is bound in that module, once."""
    names = declared(module)
    if names is None:
        # Only a public module must have one; a package's marker file and a script need none.
        assert module.name not in PUBLIC
        return
    assert len(names) == len(set(names))
    assert set(names) - bound(module) == set()


def test_the_version_has_one_place() -> None:
    """The version in the code is what the installed distribution says."""
    from importlib.metadata import version

    from cluster_app.version import __version__

    assert __version__ == version("cluster-app")
