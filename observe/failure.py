"""From an exception to the label it is counted under, and to whether the code it was meant for may have run.

Decides the ``type`` label of ``cluster_errors_total``. Does not decide what happens to the message. Knows the
classes of Ray by name only, so that counting an error never imports Ray.

The order of the tests matters. A cancelled task arrives as ``RayTaskError(TaskCancelledError)``: it is looked
for before the rest of what ``RayTaskError`` wraps. And what it wraps was raised inside the handler, so it is
``HandlerError`` whatever its own label is: a full mailbox that a handler met further on was not *this*
message's full mailbox.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import queue
from collections.abc import Iterator

__all__ = ["RAY_FAILURES", "REASONS", "classify", "may_have_run"]

REASONS: tuple[str, ...] = (
    "MailboxFull",
    "RunnerUnavailable",
    "RunnerNotRegistered",
    "EntityNotAssignedToRunner",
    "MalformedMessage",
    "AlreadyProcessingMessage",
    "CallCycle",
    "PersistenceError",
    "Timeout",
    "Cancelled",
    "ActivationFailed",
    "HandlerError",
    "Unknown",
)
"""All values that `classify` returns."""

_NEVER_RAN = frozenset(
    {
        "MailboxFull",
        "RunnerNotRegistered",
        "EntityNotAssignedToRunner",
        "MalformedMessage",
        "CallCycle",
        "ActivationFailed",
    }
)

RAY_FAILURES: dict[str, tuple[str, bool]] = {
    "ActorAlreadyExistsError": ("Unknown", False),
    "ActorDiedError": ("RunnerUnavailable", True),
    "ActorHandleNotFoundError": ("RunnerNotRegistered", False),
    "ActorPlacementGroupRemoved": ("RunnerNotRegistered", False),
    "ActorUnavailableError": ("RunnerUnavailable", True),
    "ActorUnschedulableError": ("RunnerNotRegistered", False),
    # How an async actor leaves: control flow of the actor, and for its caller the end of the actor.
    "AsyncioActorExit": ("RunnerUnavailable", True),
    "AuthenticationError": ("RunnerUnavailable", False),
    # The three that a reply turns into which cannot be decoded here: the handler had run.
    "CrossLanguageError": ("MalformedMessage", True),
    "UnserializableException": ("MalformedMessage", True),
    "RaySystemError": (
        "RunnerUnavailable",
        True,
    ),  # MalformedMessage when it holds a decoding error, see below
    "GetTimeoutError": ("Timeout", True),
    "LocalRayletDiedError": ("RunnerUnavailable", True),
    "NodeDiedError": ("RunnerUnavailable", True),
    "ObjectFetchTimedOutError": ("RunnerUnavailable", True),
    "ObjectFreedError": ("RunnerUnavailable", True),
    # A lost argument: not run; a lost result: ran. The error does not say which.
    "ObjectLostError": ("RunnerUnavailable", True),
    "ObjectReconstructionFailedError": ("RunnerUnavailable", True),
    # The end of a stream of results and no failure; whoever counts it has asked for the wrong thing.
    "ObjectRefStreamEndOfStreamError": ("Unknown", True),
    "ObjectStoreFullError": ("RunnerUnavailable", False),
    "OufOfBandObjectRefSerializationException": ("MalformedMessage", False),
    "OutOfDiskError": ("RunnerUnavailable", False),
    "OutOfMemoryError": ("RunnerUnavailable", True),
    "OwnerDiedError": ("RunnerUnavailable", True),
    "PendingCallsLimitExceeded": ("MailboxFull", False),
    "PlasmaObjectNotAvailable": ("Timeout", True),
    "RayActorError": ("RunnerUnavailable", True),
    "RayCgraphCapacityExceeded": ("MailboxFull", False),
    "RayChannelError": ("RunnerUnavailable", True),
    "RayChannelTimeoutError": ("Timeout", True),
    "RayDirectTransportError": ("RunnerUnavailable", True),
    "RayError": ("Unknown", True),
    "RayTaskError": ("HandlerError", True),
    "ReferenceCountingAssertionError": ("RunnerUnavailable", True),
    "RpcError": ("RunnerUnavailable", True),
    "RuntimeEnvSetupError": ("RunnerNotRegistered", False),
    "StreamingGeneratorReplayInconsistentError": ("HandlerError", True),
    "TaskCancelledError": ("Cancelled", True),
    "TaskPlacementGroupRemoved": ("RunnerNotRegistered", False),
    "TaskUnschedulableError": ("RunnerNotRegistered", False),
    "UserCodeException": ("HandlerError", True),
    "WorkerCrashedError": ("RunnerUnavailable", True),
}
"""Class name in ``ray.exceptions`` -> (reason, whether the call may have run), for Ray 2.60."""

_BUILT_IN: tuple[tuple[type[BaseException], str], ...] = (
    # TimeoutError is asyncio's, concurrent.futures' and socket's too; it and ConnectionError are OSErrors.
    (TimeoutError, "Timeout"),
    (asyncio.CancelledError, "Cancelled"),
    (concurrent.futures.CancelledError, "Cancelled"),
    (GeneratorExit, "Cancelled"),
    (pickle.PickleError, "MalformedMessage"),
    (ConnectionError, "RunnerUnavailable"),
    (concurrent.futures.BrokenExecutor, "RunnerUnavailable"),
    (queue.Full, "MailboxFull"),
    (asyncio.QueueFull, "MailboxFull"),
)

# What pickle, Ray's pickling of arguments and `inspect.Signature.bind` (which Ray calls before it sends) say.
_NOT_ENCODABLE = ("cannot pickle ", "can't pickle ", "can't get local object", "could not serialize ")
_NOT_BINDABLE = (
    "missing a required ",
    "too many positional arguments",
    "got an unexpected keyword argument ",
    "got some positional-only arguments passed as keyword arguments",
    "multiple values for argument ",
)


def classify(error: BaseException | type) -> str:
    """Return the reason, one of `REASONS`, for an exception or (where only that is known) its class.

    An error whose class has a ``reason`` from `REASONS` names itself; the classes of Ray and of the standard
    library are known here; anything else is ``"Unknown"``.
    """
    return _verdict(error)[0]


def may_have_run(error: BaseException | type) -> bool:
    """Whether the code that the failed call was for may have run. False is a promise that it did not."""
    return _verdict(error)[1]


def _verdict(error: BaseException | type) -> tuple[str, bool]:
    kind = error if isinstance(error, type) else type(error)
    ray_names = list(_ray_names(kind))
    if "RayTaskError" in ray_names:
        return _task_verdict(error, ray_names)
    own = getattr(kind, "reason", None)
    if isinstance(own, str) and own in REASONS:
        says = getattr(error, "may_have_run", None)
        return own, says if isinstance(says, bool) else own not in _NEVER_RAN
    for name in ray_names:
        found = RAY_FAILURES.get(name)
        if found is not None:
            return _instance_verdict(error, ray_names, found)
    reason = _built_in_reason(error, kind)
    return reason, reason not in _NEVER_RAN


def _ray_names(kind: type) -> Iterator[str]:
    return (base.__name__ for base in kind.__mro__ if base.__module__.startswith("ray."))


def _task_verdict(error: BaseException | type, ray_names: list[str]) -> tuple[str, bool]:
    """What a task or an actor's method raised, or what became of it on its way back."""
    cause = getattr(error, "cause", None)
    wrapped = set(ray_names).union(_ray_names(type(cause)))
    if "TaskCancelledError" in wrapped:
        return RAY_FAILURES["TaskCancelledError"]
    if isinstance(error, type) or not isinstance(cause, BaseException):
        return RAY_FAILURES["RayTaskError"]
    text = _text(error)
    # An argument that cannot be decoded fails the call before the method starts; Ray puts this note in.
    if "RaySystemError" in wrapped and "input arguments for this task could not be computed" in text:
        return "MalformedMessage", False
    # A reply that cannot be encoded: Ray hides its own frames, so the first one shown is the pickler's. Had
    # the method itself pickled something in vain, its own frame would come first.
    frame = next((line for line in text.splitlines() if line.startswith("  File ")), "")
    if (
        "/ray/cloudpickle/" in frame.replace("\\", "/")
        and _built_in_reason(cause, type(cause)) == "MalformedMessage"
    ):
        return "MalformedMessage", True
    return RAY_FAILURES["RayTaskError"]


def _instance_verdict(
    error: BaseException | type, ray_names: list[str], found: tuple[str, bool]
) -> tuple[str, bool]:
    if ray_names[0] == "RaySystemError" and isinstance(getattr(error, "client_exc", None), BaseException):
        return "MalformedMessage", True
    if "RayActorError" in ray_names and getattr(error, "actor_init_failed", False) is True:
        return found[0], False  # no method runs on an actor that never came to life
    return found


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its own `__str__` is a stranger's code: what it hides is not told apart
        return ""


def _built_in_reason(error: BaseException | type, kind: type) -> str:
    for known, reason in _BUILT_IN:
        if issubclass(kind, known):
            return reason
    text = "" if isinstance(error, type) else _text(error).lower()
    if issubclass(kind, TypeError | AttributeError) and text.startswith(_NOT_ENCODABLE):
        return "MalformedMessage"
    if issubclass(kind, TypeError) and text.startswith(_NOT_BINDABLE):
        return "MalformedMessage"
    if issubclass(kind, ValueError) and text.startswith("failed to look up actor"):
        return "RunnerNotRegistered"  # `ray.get_actor` of a name that nobody has
    return "Unknown"
