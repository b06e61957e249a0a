"""The project's own modules as text and syntax trees, for the tests that read code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "SourceModule", "source_modules"]

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("observe", "entities", "cluster_app")
"""The floors, the lowest first."""


@dataclass(frozen=True)
class SourceModule:
    """One module: its dotted name and its file."""

    name: str
    path: Path

    @property
    def floor(self) -> str:
        """The package it belongs to."""
        return self.name.partition(".")[0]

    @property
    def relative_path(self) -> str:
        """The file as one would type it in the project's folder."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported, also inside functions and for type checkers only.

        ``from a import b`` yields ``a.b``: whether that is a module or a name in one, `a` is imported.
        """
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                origin = [*above, *([node.module] if node.module else [])]
                for alias in node.names:
                    yield node.lineno, ".".join([*origin, alias.name])


def source_modules() -> list[SourceModule]:
    """Every module of the three packages, in order of name."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(SourceModule(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return sorted(found, key=lambda module: module.name)
