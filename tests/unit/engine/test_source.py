"""What counts as the same code: the text of a class and of all that it mentions, and nothing else."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entities import Entity, entity, message
from entities.declaration import define
from entities.source import class_digest

SHOP = """
    import random
    import pricing
    from pricing import discount
    from pricing import Base as Origin

    RATE = {rate}
    RUN = random.random()

    def helper(x):
        return RATE * discount(x)  {comment}

    def stranger():
        return {stranger}

    class Shop(Origin):
        def price(self, x):
            return helper(x) + pricing.fee + RUN
"""
PRICING = """
    fee = {fee}

    class Base:
        kind = {kind}

    def discount(x):
        return x - {less}
"""
USUAL = {
    "rate": 1,
    "comment": "",
    "stranger": 1,
    "fee": 1,
    "kind": 1,
    "less": 1,
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The digest of `Shop`, as a new process would find it, after some edits."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    edits = 0

    def forget() -> None:
        for name in ("shop", "pricing"):
            sys.modules.pop(name, None)

    def of(**edited: object) -> str:
        nonlocal edits
        edits += 1  # texts of one length written within a tick of the file system's clock would be one file
        for name, text in (("shop.py", SHOP), ("pricing.py", PRICING)):
            padding = "# " + "." * edits
            (tmp_path / name).write_text(textwrap.dedent(text).format(**USUAL | edited) + padding)
        forget()
        importlib.invalidate_caches()
        return class_digest(importlib.import_module("shop").Shop)

    yield of
    forget()


def test_the_same_text_is_the_same_code_in_every_run(digest: Callable[..., str]) -> None:
    """Also where a value that it mentions comes out otherwise each time."""
    assert digest() == digest()


@pytest.mark.parametrize(
    "edited", [{"rate": 2}, {"fee": 2}, {"kind": 2}, {"less": 2}], ids=lambda edited: next(iter(edited))
)
def test_an_edit_of_what_the_class_mentions_makes_other_code(
    digest: Callable[..., str], edited: dict[str, int]
) -> None:
    """A constant, a helper, a module's attribute and a base class, in its own module and in one beside it."""
    assert digest() != digest(**edited)


@pytest.mark.parametrize(
    "edited", [{"stranger": 2}, {"comment": "# why"}], ids=lambda edited: next(iter(edited))
)
def test_an_edit_elsewhere_changes_nothing(digest: Callable[..., str], edited: dict[str, Any]) -> None:
    """What the class does not mention, and comments."""
    assert digest() == digest(**edited)


def at_a_prompt(cell: str) -> type[Any]:
    """The class `Typed` from a cell, with no file behind it."""
    names: dict[str, Any] = {"__name__": "__main__", "Entity": Entity, "entity": entity, "message": message}
    exec(textwrap.dedent(cell), names)
    typed: type[Any] = names["Typed"]
    return typed


CELL = """
    import dataclasses, enum

    rate = {rate}

    class Colour(enum.Enum):
        RED = {red}

    def helper():
        return rate, Colour.RED

    def make():
        return {made}

    @dataclasses.dataclass
    class Typed:
        size: int = {size}
        made: int = dataclasses.field(default_factory=make)

        @property
        def price(self):
            return helper()

        @staticmethod
        def kind(of={of}):
            return {kind}
"""
TYPED = {"rate": 1, "red": 1, "made": 1, "size": 1, "of": 1, "kind": 1}


@pytest.mark.parametrize("edited", TYPED)
def test_what_was_typed_at_a_prompt_is_told_apart_by_what_is_there(edited: str) -> None:
    """Defaults, properties, static methods, factories, and the constants, enums and functions they mention."""
    first, again, other = (
        class_digest(at_a_prompt(CELL.format(**values))) for values in (TYPED, TYPED, TYPED | {edited: 2})
    )
    assert first == again
    assert first != other


def test_a_digest_is_of_the_options_too() -> None:
    """The same class with other options is another type."""
    cell = """
        @entity(max_idle_time={})
        class Typed(Entity):
            @message
            def get(self):
                return 1
    """
    first, again, other = (define(at_a_prompt(cell.format(idle))).digest for idle in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_helper_below_the_class_counts() -> None:
    """The digest is found out when it is asked for, not while the module is still being read."""
    cell = """
        @entity()
        class Typed(Entity):
            @message
            def get(self):
                return helper()

        def helper():
            return {}
    """
    assert define(at_a_prompt(cell.format(1))).digest != define(at_a_prompt(cell.format(2))).digest
