"""`.remote()` as it would be if there were no traces: its own source, without the look at them.

It decides what tracing that is off is held against. A variable that switches tracing off leaves the look in place.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from cluster_app import reference
from cluster_app.reference import OutgoingMessage

__all__ = ["untraced"]


class _WithoutLook(ast.NodeTransformer):
    def __init__(self) -> None:
        self.removed = 0

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Leave out the one that looks for a trace."""
        if "sampling.look()" in ast.unparse(node.test):
            self.removed += 1
            return None
        return self.generic_visit(node)


def untraced(message: OutgoingMessage) -> Callable[..., Any]:
    """Its `.remote`, without traces. Raises LookupError when its source does not look for them just once."""
    remote: Callable[..., Any] = _remote(inspect.getsource(OutgoingMessage.remote)).__get__(message)
    return remote


@cache  # one function for all, as there is of the other: each gets fast by being run often
def _remote(source: str) -> Any:
    tree = ast.parse(textwrap.dedent(source))
    without = _WithoutLook()
    tree = ast.fix_missing_locations(without.visit(tree))
    if without.removed != 1:
        raise LookupError(f"OutgoingMessage.remote looks for a trace {without.removed} times, not once")
    made: dict[str, Any] = {}
    exec(compile(tree, "untraced_message", "exec"), reference.__dict__, made)
    return made["remote"]
