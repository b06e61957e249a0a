"""Metrics for a plain Ray actor, by wrapping its handle.

Decides what may be wrapped, and says what to do otherwise. Does not decide how calls are counted, and loads Ray
only when a handle of it is given.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar, cast

__all__ = ["instrument"]

Handle = TypeVar("Handle")


def instrument(handle: Handle, entity_type: str | type | None = None) -> Handle:
    """Return the actor handle with every call through it counted as a message to `entity_type`.

    The result is used like the handle: ``wrapped.method.remote(...)`` returns Ray's own reference, references or
    generator, ``.options(...)`` works, `ray.kill` takes it, and it may be sent anywhere: its calls are counted in
    the process that makes them. The handle given stays as it is. Needs neither a cluster nor ``connect``.

    Counted are ``cluster_messages_sent_total`` at ``.remote()``, and when the call ends
    ``cluster_message_latency_seconds`` in seconds with its outcome and ``cluster_errors_total`` with its type.
    Results are never fetched for that.

    :param entity_type: the label; by default the name of the actor's class.

    Raises TypeError for what is no actor handle, and for a label that is neither text nor a class.
    """
    if entity_type is not None and not isinstance(entity_type, str | type):
        raise TypeError(f"entity_type is a name or a class, not {entity_type!r}")
    actors = sys.modules.get("ray.actor")
    # Without Ray loaded nothing can be a handle of it.
    if actors is None or not isinstance(handle, actors.ActorHandle):
        raise TypeError(f"instrument() takes a handle of a Ray actor, not {_described(handle)}")
    from observe.ray_handles import instrumented

    return cast(Handle, instrumented(cast(Any, handle), entity_type))


def _described(given: object) -> str:
    kind = type(given)
    known = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "ray.actor" or kind.__name__.startswith("ActorClass("):
        if isinstance(given, type) or hasattr(given, "__ray_metadata__"):
            return f"the actor class {given!r}: start one with .remote() and give its handle"
        return f"{known}: give the handle whose method it is"
    if kind.__module__.startswith("ray.util.client"):
        return f"{known}: answers to Ray Client calls can't be seen without fetching them"
    if isinstance(given, type):
        return f"the class {given.__qualname__}"
    if hasattr(given, "address") and kind.__module__.startswith("cluster_app"):
        return f"{known}: messages to an entity are counted already"
    return f"{given!r} ({known})"
