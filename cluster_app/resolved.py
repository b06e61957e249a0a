"""Arguments that are references to objects: a top-level one is that object to the handler, as in Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entities.delivery import Delivery

__all__ = ["needs_objects", "resolved"]


def needs_objects(attach: tuple[type, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> bool:
    """Whether an argument is such a reference; a nested one stays one."""
    return any(isinstance(a, attach) for a in (*args, *(kwargs or {}).values()))


async def resolved(attach: tuple[type, ...], delivery: Delivery) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the objects in their places."""
    args = [await a if isinstance(a, attach) else a for a in delivery.args]  # type: ignore[misc]  # Ray's are awaitable
    kwargs = {k: await v if isinstance(v, attach) else v for k, v in (delivery.kwargs or {}).items()}  # type: ignore[misc]
    return tuple(args), kwargs
