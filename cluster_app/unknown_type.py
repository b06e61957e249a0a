"""A name of an entity type that the cluster does not know."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["UnknownType"]


class UnknownType(LookupError):
    """No entity type of this name is registered; the text names those that are.

    :ivar name: the name asked for.
    :ivar known: the names of the types that are registered.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return (
            f"no entity type {self.name!r} is registered (registered: {', '.join(self.known) or 'none'}); "
            "a type is registered by the first message to it, or by cluster.register(Type)"
        )
