"""Everything that can go wrong with a message, as one tree.

::

    ClusterError                       reason = the class's name, the `type` label of cluster_errors_total
    ├── MailboxFull                    .scope is "mailbox" or "lane"
    ├── RunnerUnavailable
    ├── RunnerNotRegistered
    ├── EntityNotAssignedToRunner
    ├── MalformedMessage
    ├── AlreadyProcessingMessage
    ├── CallCycle
    ├── PersistenceError
    ├── Timeout                        also a built-in TimeoutError
    ├── Cancelled
    ├── ActivationFailed
    ├── HandlerError                   .__cause__ is what the entity's code raised
    └── Unknown

Each error carries its data and derives its text from it; each survives pickle with its cause, which plain
pickle drops. It decides nothing about labels: `observe.failure` reads `reason`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from entities.address import EntityAddress

__all__ = [
    "ActivationFailed",
    "AlreadyProcessingMessage",
    "CallCycle",
    "Cancelled",
    "ClusterError",
    "EntityNotAssignedToRunner",
    "HandlerError",
    "MailboxFull",
    "MalformedMessage",
    "PersistenceError",
    "RunnerNotRegistered",
    "RunnerUnavailable",
    "Timeout",
    "Unknown",
]


class ClusterError(Exception):
    """A message that did not end with its handler's own value.

    :ivar address: the entity the message was for, if known.
    :ivar method: the message's name, if known.
    :ivar shard: the shard's printed form (``group:number``), if known.
    :ivar runner: the id of the runner concerned, if known.
    :ivar detail: what happened, in words.
    :ivar may_have_run: whether the handler may have started. False is a promise that it did not.
    :ivar retryable: whether sending the same message again can succeed with nothing else changed.
    """

    reason: ClassVar[str] = "Unknown"
    summary: ClassVar[str] = "the message failed"
    default_may_have_run: ClassVar[bool] = True
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        address: EntityAddress | None = None,
        method: str | None = None,
        shard: str | None = None,
        runner: str | None = None,
        may_have_run: bool | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.address = address
        self.method = method
        self.shard = shard
        self.runner = runner
        self.may_have_run = self.default_may_have_run if may_have_run is None else may_have_run
        self.retryable = self.default_retryable if retryable is None else retryable

    def __init_subclass__(cls) -> None:
        # A user's own subclass keeps the label of the class it refines: labels stay a closed set.
        if "reason" not in cls.__dict__ and cls.__module__ == __name__:
            cls.reason = cls.__name__

    def __str__(self) -> str:
        target = str(self.address) if self.address is not None else ""
        if self.method:
            target = f"{target}.{self.method}" if target else self.method
        parts = [f"{target}: {self.summary}" if target else self.summary]
        if self.detail:
            parts.append(f": {self.detail}")
        where = [
            f"{name} {value}" for name, value in (("shard", self.shard), ("runner", self.runner)) if value
        ]
        if where:
            parts.append(f" ({', '.join(where)})")
        if self.may_have_run and not self.default_may_have_run:
            parts.append("; it may have run")
        return "".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.args, self.__dict__.copy(), self.__cause__))


def describe(error: BaseException) -> str:
    """An error's type and text in one line; never raises, whatever the error's own ``__str__`` does."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException as raised:
        return f"{type(error).__name__}, whose text cannot be had: its __str__ raised {type(raised).__name__}"


def _restore(
    kind: type[ClusterError], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> ClusterError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


class MailboxFull(ClusterError):
    """A queue is at its bound: the entity's (`scope` "mailbox") or this sender's lane (`scope` "lane")."""

    summary = "the queue is full"
    default_may_have_run = False
    default_retryable = True

    def __init__(self, detail: str = "", *, scope: str = "mailbox", **data: Any) -> None:
        super().__init__(detail, **data)
        self.scope = scope


class RunnerUnavailable(ClusterError):
    """The runner, its process or its node died, or cannot be reached."""

    summary = "the runner is unavailable"
    default_retryable = True


class RunnerNotRegistered(ClusterError):
    """No runner serves this entity type or shard group (yet)."""

    summary = "no runner serves this entity type"
    default_may_have_run = False
    default_retryable = True


class EntityNotAssignedToRunner(ClusterError):
    """The shard was granted to no reachable runner before the deadline came."""

    summary = "the shard is not granted to that runner"
    default_may_have_run = False
    default_retryable = True


class MalformedMessage(ClusterError):
    """Unknown type or method, arguments that do not bind, or something that cannot be encoded or decoded."""

    summary = "the message is malformed"
    default_may_have_run = False


class AlreadyProcessingMessage(ClusterError):
    """A message with this id is already in progress."""

    summary = "this message is already in progress"


class CallCycle(ClusterError):
    """The chain of calls came back to an entity that is busy with that very chain."""

    summary = "the call chain already holds this entity, which is not reentrant"
    default_may_have_run = False


class PersistenceError(ClusterError):
    """Storage failed or refused."""

    summary = "storage failed"
    default_retryable = True


class Timeout(ClusterError, TimeoutError):
    """The message's deadline passed before its reply was there."""

    summary = "the deadline passed"
    default_retryable = True


class Cancelled(ClusterError):
    """The sender cancelled the message."""

    summary = "cancelled by its sender"


class ActivationFailed(ClusterError):
    """`__init__` or `on_activate` of the entity raised; `__cause__` is what it raised. The next message tries again."""

    summary = "the entity could not be activated"
    default_may_have_run = False
    default_retryable = True


class HandlerError(ClusterError):
    """The entity's own code raised; `__cause__` is the original.

    :ivar traceback_text: the traceback where it was raised, as text.
    """

    summary = "the handler raised"

    def __init__(self, detail: str = "", *, traceback_text: str = "", **data: Any) -> None:
        super().__init__(detail, **data)
        self.traceback_text = traceback_text


class Unknown(ClusterError):
    """Anything else."""

    summary = "an unexpected error"
