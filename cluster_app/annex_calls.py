"""What an owner and the process of one of its entities say to each other.

Values only, and the port that carries them. The two ends are `owned_annex` and `annexed_entity`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from cluster_app.envelope import Packed
from entities.annex import Left

__all__ = ["Call", "Lent", "Link", "News", "Reply", "Tenancy"]


class Tenancy(NamedTuple):
    """Which entity a process is for, and under which grant.

    :ivar process: the process's name, never used again: its owner's id, a slash, a number.
    """

    process: str
    entity_type: str
    entity_id: str
    shard: int
    epoch: tuple[int, int]


class Lent(NamedTuple):
    """What an owner lends of its lease: seconds that were left to it when it had that answer of the process.

    Only a duration travels, and the process counts it from before: from when it gave that answer, by its own clock.
    """

    answer: int
    left_s: float


class Call(NamedTuple):
    """One message, handed on.

    :ivar number: from 0 without gaps; messages begin in this order, however they travel.
    :ivar arguments: (args, kwargs), pickled together.
    :ivar timeout_s: seconds that are left to it.
    """

    number: int
    method: str
    arguments: Packed
    timeout_s: float
    chain: tuple[tuple[str, str, str], ...]
    trace: str | None
    message_id: str
    lent: Lent


class Reply(NamedTuple):
    """How a message, or coming to life, ended.

    :ivar answer: the number of this answer; see `Lent`.
    :ivar value: the value if it is an atom, else a `Packed`.
    :ivar error: a pickled ClusterError, or None.
    :ivar wants_out: the entity has asked to be let go.
    """

    answer: int
    value: Any = None
    error: bytes | None = None
    wants_out: bool = False


class News(NamedTuple):
    """What the process has to say by itself; an empty one asks for more lease.

    :ivar timers: what the entity has asked for with `every`: seconds, and the message.
    """

    answer: int
    wants_out: bool = False
    over: bool = False
    timers: tuple[tuple[float, str], ...] = ()


class Link(Protocol):
    """The way to one process. Each call raises AnnexLost once the process has ended."""

    async def begin(self) -> None:
        """Have it started; what it says then is its answer 0. Raises RunnerNotRegistered when that is refused."""
        ...

    async def hindrance(self) -> str | None:
        """What keeps it from starting, in words."""
        ...

    async def activate(self, lent: Lent, trace: str | None) -> Reply:
        """Bring the entity to life; its error is an ActivationFailed when it does not come.

        :param trace: the trace context of that, if it is part of a trace.
        """
        ...

    async def call(self, call: Call) -> Reply:
        """Hand a message on."""
        ...

    def cancel(self, number: int) -> None:
        """That message is not wanted any more."""
        ...

    async def news(self, lent: Lent) -> News:
        """Wait for news, or for the time to lend anew."""
        ...

    async def states(self) -> dict[str, Any] | None:
        """The entity's public attributes, as they travel; None once it has been let go."""
        ...

    async def leave(self, reason: str) -> Left:
        """Ask the entity to go."""
        ...

    async def bury(self, grace_s: float) -> None:
        """End the process, and wait for the proof; after `grace_s` seconds by force."""
        ...
