"""Declarations: what may be declared, what it takes, and when two drivers have the same code."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from entities import Entity, entity, message
from entities.declaration import MessageDeclaration, define


class Takes(Entity):
    @message
    def two(self, a: int, b: int = 2) -> None: ...

    @message
    async def keyword(self, a: int, *, b: int) -> None: ...

    @message(idempotent=True)
    async def many(self, /, *values: int, **named: int) -> None: ...

    def hidden(self) -> None: ...


def declared(name: str) -> MessageDeclaration:
    """One of its messages."""
    return define(Takes).messages[name]


def test_only_declared_methods_are_messages() -> None:
    """With what was said of each."""
    assert sorted(define(Takes).messages) == ["keyword", "many", "two"]
    assert [declared(name).is_async for name in ("two", "keyword")] == [False, True]
    assert declared("many").idempotent and not declared("two").idempotent


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "fits"),
    [
        ("two", (1,), None, True),
        ("two", (1, 2), {}, True),
        ("two", (1,), {"b": 3}, True),
        ("two", (), None, False),
        ("two", (1, 2, 3), None, False),
        ("two", (1,), {"c": 3}, False),
        ("two", (1,), {"a": 3}, False),
        ("keyword", (1,), None, False),
        ("keyword", (1,), {"b": 2}, True),
        ("many", (1, 2, 3), {"x": 4}, True),
    ],
)
def test_arguments_bind_as_in_a_call(name: str, args: Any, kwargs: Any, fits: bool) -> None:
    """What does not fit is said with the signature."""
    wrong = declared(name).binds(args, kwargs)
    assert (wrong is None) is fits
    assert wrong is None or name in wrong


def test_what_cannot_be_a_message_is_refused_where_it_is_written() -> None:
    """Generators, private names, and what is no function."""

    def gives() -> Iterator[int]:
        yield 1

    async def streams() -> AsyncIterator[int]:
        yield 1

    def _private() -> None: ...

    bad: list[Any] = [gives, streams, _private, 7, property(lambda self: 1), Takes]
    for each in bad:
        with pytest.raises(TypeError, match="@message"):
            message(each)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a/b"},
        {"max_idle_time": 0},
        {"max_idle_time": float("nan")},
        {"mailbox_capacity": 0},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"hosting": "moon"},
        {"group": ""},
        {"group": "a:b"},
    ],
)
def test_an_option_without_meaning_is_refused(options: dict[str, Any]) -> None:
    """With the option's name in the message."""
    with pytest.raises(ValueError, match=next(iter(options))):
        entity(**options)


def test_without_parentheses_it_is_refused_with_what_to_write() -> None:
    """`@message` has none, so that is soon written."""

    class Bare(Entity): ...

    with pytest.raises(TypeError, match=r"@entity\(\)"):
        entity(Bare)  # type: ignore[arg-type]  # as a type checker says, too


def test_a_class_that_cannot_be_activated_is_refused() -> None:
    """No entity, or a constructor that needs arguments."""

    class Needs(Entity):
        def __init__(self, size: int) -> None: ...

    bad: list[Any] = [Entity, int, 7]
    for each in bad:
        with pytest.raises(TypeError, match="Entity"):
            define(each)
    with pytest.raises(TypeError, match="size"):
        entity()(Needs)


def load(folder: Path, text: str) -> type[Entity]:
    """A class from a file of this text."""
    path = folder / f"written_{len(list(folder.iterdir()))}.py"
    path.write_text("from entities import Entity, entity, message\n" + text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        define(module.Written)
    finally:
        del sys.modules[path.stem]
    written: type[Entity] = module.Written
    return written


def test_the_digest_tells_code_and_options_apart_and_nothing_else(tmp_path: Path) -> None:
    """The same text in two files is the same code."""
    text = "@entity(max_idle_time={})\nclass Written(Entity):\n    @message\n    def get(self):\n        return {}\n"
    digests = [define(load(tmp_path, text.format(*p))).digest for p in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
