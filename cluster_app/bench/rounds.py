"""Rounds of several sides, one after another: who runs when, and what is told meanwhile.

It decides the order (it turns round from round to round, so that a machine that warms up or tires favours nobody) and
that nothing a side has said is thrown away. Each round of each side is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cluster_app.bench.child import run_child

__all__ = ["Rounds", "Side", "Stage"]

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
"""What each side said, by its name, a line per round."""


class Side(NamedTuple):
    """One of those that are compared.

    :ivar name: what tables call it.
    :ivar module: the program that measures it, as for ``python -m``.
    :ivar asked: what that program is asked to do.
    :ivar says: its line in one phrase, for people who wait.
    """

    name: str
    module: str
    asked: Mapping[str, Any]
    says: Callable[[Mapping[str, Any]], str]


class Stage:
    """Where rounds are run.

    :param told: hears a line as each round of each side ends.
    :param child: runs a program and returns its line; raises ChildFailed. Without: `run_child`.
    """

    def __init__(
        self,
        told: Callable[[str], None],
        child: Callable[[str, Mapping[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.told = told
        self._child = child or run_child

    def play(self, sides: Sequence[Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
        """Run `rounds` of each side."""
        lines: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                line = self._child(side.module, side.asked)
                lines[side.name].append(line)
                self.told(f"round {number + 1} of {rounds}: {side.name}: {side.says(line)}")
        return lines
