"""How this project calls Ray actors: by name, and without blocking.

Decides what a failed call means for a lane: the runner is gone, or only out of reach.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)

__all__ = [
    "COORDINATOR",
    "actor_names",
    "agent_name",
    "as_exchange_error",
    "boottime",
    "call",
    "find_actor",
    "here",
    "is_of_service",
    "owner_of",
    "readable",
    "wait_for",
]

COORDINATOR = "coordinator"
_LONGEST_NAME = 200
# Coordinator, agents, runners and entities' own processes; the namespace may have actors of the user's as well.
_OF_SERVICE = re.compile(r"coordinator|agent-[0-9a-f]+|runner-[0-9a-f]+-[0-9a-f]+|entity-[^/]+/.*", re.DOTALL)

# CLOCK_BOOTTIME goes on while the machine sleeps, so a lease cannot outlive its time in a suspended laptop.
boottime: Callable[[], float] = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def agent_name(node_id: str) -> str:
    """The name of a node's agent."""
    return f"agent-{node_id}"


def owner_of(process: str) -> str | None:
    """The runner that a process belongs to, if it is one entity's own: its name begins with its owner's."""
    owner, slash, _ = process.partition("/")
    return owner if slash else None


def readable(text: str) -> str:
    """An entity's address as Ray's listings and log lines can hold it: one line of bounded length, and still unique."""
    shown = "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST_NAME]
    if shown != text:  # two addresses must not share a name
        shown += f"~{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
    return shown


def here() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def find_actor(name: str, namespace: str) -> Any:
    """The handle of the living actor of that name, or None. Asks the GCS, about a millisecond."""
    try:
        return ray.get_actor(name, namespace=namespace)
    except (ValueError, RayError):
        return None


def actor_names(namespace: str) -> set[str]:
    """The names of the living actors of a namespace. Blocks for a call to the GCS."""
    # Without all_namespaces Ray looks in the caller's own namespace, which is the job's.
    found: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in found if actor["namespace"] == namespace}


def is_of_service(name: str) -> bool:
    """Whether this project gives such a name to an actor."""
    return _OF_SERVICE.fullmatch(name) is not None


def call(method: Any, *args: Any, told: Callable[[Any], None]) -> None:
    """Call an actor's method; `told` hears the value or the error, once, on a thread of Ray's. Raises nothing.

    That thread carries all answers of this process: `told` must not block.
    """
    try:
        reference = method.remote(*args)
    except BaseException as raised:
        # Never from within this call: the caller may hold the lock that `told` wants.
        threading.Thread(target=told, args=(raised,), daemon=True).start()
        return
    held = [reference]

    def heard(value: Any) -> None:
        held.clear()
        told(value)

    # The callback holds the reference: were it dropped before a large answer has been fetched, Ray would no longer
    # know the object's owner, and abort this whole process.
    if type(reference) is ray.ObjectRef:
        reference._on_completed(heard)
    else:
        from cluster_app.ray_client import hear  # only where there is a driver of that kind

        hear(reference, heard)


def wait_for(reference: Any, timeout_s: float) -> Any:
    """Block a thread for a call's value. Raises what the call raised, or TimeoutError.

    `ray.get` would do, but for a warning that it logs in every thread of an async actor.
    """
    return reference.future().result(timeout_s)


def as_exchange_error(error: Any) -> BaseException:
    """What a failed call to a runner means."""
    from cluster_app.exchange import RunnerGone, RunnerUnreachable  # for who calls runners

    if isinstance(error, ActorUnavailableError):
        return RunnerUnreachable(str(error))
    # Ray's own killer of processes that take too much memory has an error of its own, which is none of an actor's.
    if isinstance(error, ActorDiedError | ActorUnschedulableError | RayActorError | OutOfMemoryError):
        return RunnerGone("its process has ended")
    if isinstance(error, RayTaskError):
        return RunnerGone(f"it failed: {error}")
    return RunnerUnreachable(str(error))
