"""Which nodes something may be on: what their labels and resources must be.

Decides what is asked and whether a node has it. Pure: what a node has is read elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

__all__ = ["Asked", "NodeRule"]

Asked = Mapping[str, str | float]  # as a user writes it, by name of the label or resource

_VALUE = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_ONE = re.compile(rf"(!?)({_VALUE})")
_SEVERAL = re.compile(rf"(!?)in\(({_VALUE}(?:, ?{_VALUE})*)\)")


class NodeRule:
    """Text asks for a label, in Ray's own notation: ``"a"``, ``"!a"``, ``"in(a, b)"`` or ``"!in(a, b)"``. A number asks
    for a node that was started with that much of a resource at least. All of it must be there; nothing asked fits any
    node.

    :raises ValueError: for what could never be meant; the text names it.
    """

    def __init__(self, asked: Asked) -> None:
        self._labels: dict[str, tuple[bool, frozenset[str]]] = {}
        self._amounts: dict[str, float] = {}
        for name, value in asked.items():
            if not name:
                raise ValueError("a node is asked for a label or resource without a name")
            if isinstance(value, str):
                self._labels[name] = _selector(name, value)
            elif isinstance(value, bool) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"of resource {name!r} a node has an amount above 0, not {value!r}")
            else:
                self._amounts[name] = float(value)
        self._text = ", ".join(
            f"{name}={value}" if isinstance(value, str) else f"{value:g} {name}"
            for name, value in asked.items()
        )

    def fits(self, labels: Mapping[str, str], resources: Mapping[str, float]) -> bool:
        """Whether a node with these labels, and these resources in all, free or not, has what is asked."""
        return all(
            (labels.get(name) in values) is wanted for name, (wanted, values) in self._labels.items()
        ) and all(resources.get(name, 0.0) >= amount for name, amount in self._amounts.items())

    def __str__(self) -> str:
        return self._text or "nothing"


def _selector(name: str, value: str) -> tuple[bool, frozenset[str]]:
    found = _SEVERAL.fullmatch(value) or _ONE.fullmatch(value)
    if found is None:
        raise ValueError(
            f"label {name!r} can be asked to be a value, '!value', 'in(one, other)' or '!in(one, other)', "
            f"not {value!r}"
        )
    return not found[1], frozenset(re.split(", ?", found[2]))
