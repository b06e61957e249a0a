"""The three floors: who may import whom, read from the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source import PACKAGES, SourceModule, source_modules

FOREIGN_TO_ENTITIES = {"ray", "opentelemetry"}

RAY_FILES_BY_REASON: dict[str, str] = {}
"""Files that import Ray although they are not called ray_*.py, each with the reason why it has to be so."""

PURE = {
    "cluster_app.attention",
    "cluster_app.coordinator",
    "cluster_app.coordinator_config",
    "cluster_app.drains",
    "cluster_app.ended_processes",
    "cluster_app.envelope",
    "cluster_app.grants",
    "cluster_app.handoff",
    "cluster_app.inbound_lane",
    "cluster_app.kv",
    "cluster_app.leadership",
    "cluster_app.ledger",
    "cluster_app.outbound_lane",
    "cluster_app.roster",
    "cluster_app.roster_changes",
    "cluster_app.runner_record",
    "cluster_app.shard",
    "cluster_app.shard_map",
    "cluster_app.tenure",
}
"""The protocol: events in, commands out. Clock and transport are handed to it."""

IMPURE_MODULES = {"asyncio", "concurrent", "ray", "selectors", "socket", "threading", "time"}

MODULES = source_modules()


def climbs(module: SourceModule) -> list[str]:
    """The imports by which a module reaches a floor above its own."""
    above = PACKAGES[PACKAGES.index(module.floor) + 1 :]
    return [
        f"{module.relative_path}:{line} imports {name}"
        for line, name in module.imports()
        if name.partition(".")[0] in (*above, "tests")
    ]


def imported(module: SourceModule, names: set[str]) -> list[str]:
    """The imports of a module whose top-level package is one of the names."""
    return [
        f"{module.relative_path}:{line} imports {name}"
        for line, name in module.imports()
        if name.partition(".")[0] in names
    ]


def test_imports_go_down_only() -> None:
    """No module imports from a floor above its own, nor from the tests."""
    assert [line for module in MODULES for line in climbs(module)] == []


def test_entities_know_neither_ray_nor_opentelemetry() -> None:
    """An entity can be written, read and tested with nothing but Python."""
    entities = [module for module in MODULES if module.floor == "entities"]
    assert entities
    assert [line for module in entities for line in imported(module, FOREIGN_TO_ENTITIES)] == []


def test_ray_is_imported_only_where_the_name_says_so() -> None:
    """`import ray` stands in files called ray_*.py, or in a listed file that gives its reason."""
    elsewhere = {
        module.relative_path
        for module in MODULES
        if not module.path.name.startswith("ray_") and imported(module, {"ray"})
    }
    assert elsewhere == set(RAY_FILES_BY_REASON)
    assert all(RAY_FILES_BY_REASON.values())


def test_the_protocol_is_pure() -> None:
    """The protocol's modules import no clock, no thread, no event loop, no transport, and no edge of ours."""
    pure = [module for module in MODULES if module.name in PURE]
    assert {module.name for module in pure} == PURE
    edges = [
        f"{module.relative_path}:{line} imports {name}"
        for module in pure
        for line, name in module.imports()
        if name.startswith(
            ("cluster_app.ray_", "cluster_app.memory_", "cluster_app.connect", "cluster_app.cli")
        )
    ]
    assert edges + [line for module in pure for line in imported(module, IMPURE_MODULES)] == []


@pytest.mark.parametrize(
    "public", ["entities.catalog", "observe.metrics", "observe.telemetry", "cluster_app.testing"]
)
def test_what_needs_no_ray_loads_no_ray(public: str) -> None:
    """Entities, their metrics and the test kit load neither Ray nor OpenTelemetry."""
    program = f"import sys, {public}; print(*sorted({FOREIGN_TO_ENTITIES!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.split()) == (0, []), ran.stderr


def test_the_process_of_an_entity_loads_little_before_its_first_message() -> None:
    """Each such process pays for what it loads: no class of settings, no sending, no telemetry."""
    spared = {
        "cloudpickle",
        "cluster_app.client",
        "cluster_app.config",
        "cluster_app.ray_reporter",
        "observe.tracing",
        "opentelemetry",
        "pydantic",
        "sqlite3",
    }
    program = f"import sys, cluster_app.ray_entity; print(*sorted({spared!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.split()) == (0, []), ran.stderr


def test_every_module_says_what_it_decides() -> None:
    """Every module with code in it begins with a docstring."""
    silent = [m.relative_path for m in MODULES if m.tree.body and ast.get_docstring(m.tree) is None]
    assert silent == []


def test_a_climbing_import_is_found_in_every_form(tmp_path: Path) -> None:
    """Plain, from, relative, nested and type-checking imports are all seen."""
    path = tmp_path / "probe.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "import entities.errors as e\n"
        "from cluster_app import shard\n"
        "from .. import entities\n"
        "from ..cluster_app import kv\n"
        "def f():\n    import cluster_app.connect\n"
        "if TYPE_CHECKING:\n    from entities import Entity\n"
        "from observe import labels\n"
    )
    probe = SourceModule("observe.probe", path)
    assert {line for line, _ in probe.imports()} == {1, 2, 3, 4, 5, 7, 9, 10}
    assert [
        name for _, name in sorted(probe.imports()) if name.partition(".")[0] not in ("typing", "observe")
    ] == [
        "entities.errors",
        "cluster_app.shard",
        "entities",
        "cluster_app.kv",
        "cluster_app.connect",
        "entities.Entity",
    ]
