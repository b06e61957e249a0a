"""What a runner has, what travels for that reason, and what is refused."""

from __future__ import annotations

import hashlib
import importlib
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster_app import Entity, RuntimeEnvMismatch, TypeConflict, entity, message, own_modules
from cluster_app.code import check_runtime_env, prompt
from cluster_app.testing import MemoryCluster
from entities.declaration import define

WriteModule = Callable[[str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Writes a module that can be imported, under a name of its own; returns the name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"written_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return name

    return write


def digest(text: str) -> str:
    """The digest of a source."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_a_runner_has_what_it_would_import_from_the_same_source(write_module: WriteModule) -> None:
    """Told without importing it."""
    same, other = write_module("x = 1"), write_module("x = 2")
    asked = {same: digest("x = 1"), other: digest("x = 1"), "nowhere.at.all": digest("x = 1")}
    assert own_modules.missing(asked) == [other, "nowhere.at.all"]
    assert same not in sys.modules


def test_a_runner_knows_what_it_imported_though_the_file_was_edited(
    write_module: WriteModule, tmp_path: Path
) -> None:
    """It has the text of then, and has not the text of now."""
    name = write_module("x = 1")
    own_modules.pin({name: digest("x = 1")})
    importlib.import_module(name)
    (tmp_path / f"{name}.py").write_text("x = 2")
    assert own_modules.missing({name: digest("x = 1")}) == []
    assert own_modules.missing({name: digest("x = 2")}) == [name]


def test_a_runner_is_not_sure_of_a_file_written_since_it_began(write_module: WriteModule) -> None:
    """Nobody noted its text when it was imported: it counts as lacking, whatever stands there now."""
    name = write_module("x = 1")
    importlib.import_module(name)
    assert own_modules.missing({name: digest("x = 1")}) == [name]


def test_what_depends_on_a_lacking_module_travels_too(write_module: WriteModule) -> None:
    """By an imported name, by the module itself, and over another; what does not depend on it stays."""
    lacking = write_module("def f(): ...")
    by_name = write_module(f"from {lacking} import f")
    by_module = write_module(f"import {by_name}")
    apart = write_module("x = 1")
    for name in (by_module, apart):
        importlib.import_module(name)
    assert own_modules.heard([lacking, by_name, by_module, apart], [lacking]) == {lacking, by_name, by_module}
    assert [own_modules.by_value(name) for name in (lacking, by_name, by_module, apart)] == [True] * 3 + [
        False
    ]


class Plain(Entity):
    @message
    def answer(self) -> None: ...


@entity(name="Choosy", runtime_env={"env_vars": {"REGION": "north"}, "pip": ["ephem"]})
class Choosy(Entity):
    @message
    def answer(self) -> None: ...


@entity(name="Packed", runtime_env={"working_dir": "."})
class Packed(Entity):
    @message
    def answer(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "job", "runners", "differing"),
    [
        (Plain, {}, {}, None),
        (Plain, {}, {"pip": ["ephem"], "env_vars": {"REGION": "north"}}, None),
        (Plain, {"working_dir": "gcs://a.zip"}, {"working_dir": "gcs://b.zip"}, None),
        (Plain, {"pip": ["ephem"]}, {"pip": ["ephem"]}, None),
        (Plain, {"pip": ["ephem"]}, {}, "this job differs from the runners' in pip;"),
        (Plain, {"env_vars": {"REGION": "north"}}, {"env_vars": {"REGION": "south"}}, "env_vars['REGION']"),
        (Choosy, {}, {"env_vars": {"REGION": "north", "X": "1"}, "pip": ["ephem"]}, None),
        (Choosy, {}, {}, "@entity differs from the runners' in pip, env_vars['REGION'];"),
        (Packed, {}, {}, "working_dir"),
    ],
)
def test_an_environment_that_the_runners_cannot_give_is_refused(
    kind: type[Entity], job: Mapping[str, Any], runners: Mapping[str, Any], differing: str | None
) -> None:
    """Dependencies and variables, of the job and of the type; files travel. The error names what differs."""
    if differing is None:
        check_runtime_env(define(kind), job, runners)
        return
    with pytest.raises(RuntimeEnvMismatch) as refused:
        check_runtime_env(define(kind), job, runners)
    assert differing in str(refused.value)
    assert f"'{define(kind).name}'" in str(refused.value)


def test_a_prompt_is_told_by_its_process_and_a_notebook_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script, and any module, is neither."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    assert prompt("__main__") == ""
    monkeypatch.setattr(main, "__file__", None)
    assert prompt("tests.unit") == ""
    here = prompt("__main__")
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert prompt("__main__") != here
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/first.ipynb")
    notebook = prompt("__main__")
    monkeypatch.setattr("os.getpid", lambda: 2)
    assert prompt("__main__") == notebook
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/second.ipynb")
    assert prompt("__main__") != notebook


def typed(answer: int) -> type[Any]:
    """A class as a cell would define it."""
    names: dict[str, Any] = {"__name__": "__main__", "Entity": Entity, "message": message}
    exec(f"class Typed(Entity):\n    @message\n    def answer(self):\n        return {answer}", names)
    found: type[Any] = names["Typed"]
    return found


def test_a_notebook_replaces_its_own_definition_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another notebook has defined under the name is a conflict, as it is from a script."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", None, raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", "first.ipynb")
    with MemoryCluster(runners=1) as cluster:
        for answer in (1, 2):
            cluster.register(typed(answer))
            assert cluster.entity(typed(answer), f"{answer}").answer.remote().result() == answer
        monkeypatch.setenv("JPY_SESSION_NAME", "second.ipynb")
        with pytest.raises(TypeConflict, match="replace=True"):
            cluster.register(typed(3))
        monkeypatch.setattr(main, "__file__", "script.py")
        with pytest.raises(TypeConflict, match="replace=True"):
            cluster.register(typed(3))
        cluster.register(typed(3), replace=True)
        assert cluster.entity(typed(3), "3").answer.remote().result() == 3
