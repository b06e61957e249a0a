"""From an exception to its label: every class of Ray, the built-in ones, and the order of the tests."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import pickle
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest
import ray.exceptions

from entities import errors
from observe.failure import RAY_FAILURES, REASONS, classify, may_have_run

# Ray's constructors carry no types.
RAY: Any = ray.exceptions

RAY_CLASSES = [
    found
    for _, found in inspect.getmembers(ray.exceptions, inspect.isclass)
    if issubclass(found, BaseException) and found.__module__ == "ray.exceptions"
]

EXPECTED = {
    "MailboxFull": {"PendingCallsLimitExceeded", "RayCgraphCapacityExceeded"},
    "RunnerNotRegistered": {
        "ActorHandleNotFoundError",
        "ActorPlacementGroupRemoved",
        "ActorUnschedulableError",
        "RuntimeEnvSetupError",
        "TaskPlacementGroupRemoved",
        "TaskUnschedulableError",
    },
    "MalformedMessage": {
        "CrossLanguageError",
        "OufOfBandObjectRefSerializationException",
        "UnserializableException",
    },
    "Timeout": {"GetTimeoutError", "PlasmaObjectNotAvailable", "RayChannelTimeoutError"},
    "Cancelled": {"TaskCancelledError"},
    "HandlerError": {"RayTaskError", "StreamingGeneratorReplayInconsistentError", "UserCodeException"},
    "Unknown": {"ActorAlreadyExistsError", "ObjectRefStreamEndOfStreamError", "RayError"},
    "RunnerUnavailable": {
        "ActorDiedError",
        "ActorUnavailableError",
        "AsyncioActorExit",
        "AuthenticationError",
        "LocalRayletDiedError",
        "NodeDiedError",
        "ObjectFetchTimedOutError",
        "ObjectFreedError",
        "ObjectLostError",
        "ObjectReconstructionFailedError",
        "ObjectStoreFullError",
        "OutOfDiskError",
        "OutOfMemoryError",
        "OwnerDiedError",
        "RayActorError",
        "RayChannelError",
        "RayDirectTransportError",
        "RaySystemError",
        "ReferenceCountingAssertionError",
        "RpcError",
        "WorkerCrashedError",
    },
}
NEVER_RAN = {
    "ActorAlreadyExistsError",
    "AuthenticationError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfDiskError",
    *EXPECTED["MailboxFull"],
    *EXPECTED["RunnerNotRegistered"],
}


class OwnReason(Exception):
    """An error of another package that names its label."""

    reason = "PersistenceError"


class StrangeReason(Exception):
    """An error whose `reason` is a word of its own and no label."""

    reason = "because"


def task_error(cause: BaseException, frames: str = '  File "user.py", line 1, in method\n') -> BaseException:
    """A failed call as `ray.get` raises it: both a RayTaskError and the cause's class where that can be."""
    text = f"Traceback (most recent call last):\n{frames}{type(cause).__name__}: {cause}"
    wrapped = RAY.RayTaskError("method", text, cause, proctitle="p", pid=1, ip="127.0.0.1")
    error = wrapped.as_instanceof_cause()
    assert isinstance(error, BaseException)
    return error


def error_while_pickling() -> BaseException:
    """What pickle says to a lock."""
    try:
        pickle.dumps(threading.Lock())
    except TypeError as error:
        return error
    raise AssertionError("a lock was pickled")


def error_while_binding(*args: object, **kwargs: object) -> BaseException:
    """What a signature check says, which Ray makes before it sends."""

    def method(first: int, /, second: int) -> None: ...

    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError as error:
        return error
    raise AssertionError("the arguments did bind")


@pytest.mark.parametrize("kind", RAY_CLASSES, ids=lambda kind: kind.__name__)
def test_every_exception_class_of_ray_is_mapped_by_its_own_name(kind: type[BaseException]) -> None:
    """A class that a new Ray brings fails here, instead of being counted as something it is not."""
    assert kind.__name__ in RAY_FAILURES


def test_the_map_names_no_class_that_ray_does_not_have() -> None:
    """A misspelt name would never match."""
    assert set(RAY_FAILURES) == {kind.__name__ for kind in RAY_CLASSES}


@pytest.mark.parametrize("kind", RAY_CLASSES, ids=lambda kind: kind.__name__)
def test_a_class_of_ray_has_its_reason(kind: type[BaseException]) -> None:
    """Each class counts as what it means for a message, also where only the class is known."""
    [reason] = [reason for reason, names in EXPECTED.items() if kind.__name__ in names]
    assert classify(kind) == reason
    assert may_have_run(kind) == (kind.__name__ not in NEVER_RAN)


def test_a_subclass_of_a_ray_class_counts_as_its_nearest_mapped_base() -> None:
    """A user's own refinement does not become Unknown."""

    class MyTimeout(ray.exceptions.GetTimeoutError):
        """A user's own."""

    assert classify(MyTimeout()) == "Timeout"


def test_a_class_of_the_same_name_elsewhere_is_not_rays() -> None:
    """Names count only inside Ray's own modules."""

    class RpcError(Exception):
        """Somebody else's."""

    assert classify(RpcError()) == "Unknown"


def test_reasons_are_the_labels_of_the_error_tree() -> None:
    """The thirteen labels are the classes of entities.errors, by name."""
    assert len(REASONS) == len(set(REASONS)) == 13
    assert set(REASONS) == {name for name in errors.__all__ if name != "ClusterError"}


@pytest.mark.parametrize("reason", REASONS)
def test_a_cluster_error_names_itself_and_says_whether_it_may_have_run(reason: str) -> None:
    """What an error says about itself wins over its base classes and over the default of its kind."""
    kind = getattr(errors, reason)
    assert classify(kind) == classify(kind("text")) == reason
    assert may_have_run(kind("text")) == kind.default_may_have_run == may_have_run(kind)
    assert may_have_run(kind("text", may_have_run=True)) is True
    assert may_have_run(kind("text", may_have_run=False)) is False


def test_an_own_reason_counts_only_if_it_is_a_label() -> None:
    """A closed set of labels stays closed."""
    assert classify(OwnReason()) == "PersistenceError"
    assert classify(StrangeReason()) == "Unknown"
    on_the_object = Exception()
    on_the_object.reason = "Timeout"  # type: ignore[attr-defined]  # as some libraries do
    assert classify(on_the_object) == "Unknown"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "Timeout"),
        (asyncio.CancelledError(), "Cancelled"),
        (concurrent.futures.CancelledError(), "Cancelled"),
        (GeneratorExit(), "Cancelled"),
        (pickle.PicklingError("no"), "MalformedMessage"),
        (pickle.UnpicklingError("no"), "MalformedMessage"),
        (error_while_pickling(), "MalformedMessage"),
        (AttributeError("Can't pickle local object 'f.<locals>.g'"), "MalformedMessage"),
        (TypeError("Could not serialize the argument <x> for a task or actor"), "MalformedMessage"),
        (error_while_binding(), "MalformedMessage"),
        (error_while_binding(1, 2, 3), "MalformedMessage"),
        (error_while_binding(1, 2, third=3), "MalformedMessage"),
        (error_while_binding(1, 2, second=3), "MalformedMessage"),
        (ConnectionResetError(), "RunnerUnavailable"),
        (BrokenPipeError(), "RunnerUnavailable"),
        (queue.Full(), "MailboxFull"),
        (asyncio.QueueFull(), "MailboxFull"),
        (ValueError("Failed to look up actor with name 'x'"), "RunnerNotRegistered"),
        (ValueError("x"), "Unknown"),
        (TypeError("unsupported operand"), "Unknown"),
        (AttributeError("x"), "Unknown"),
        (FileNotFoundError(), "Unknown"),
        (KeyboardInterrupt(), "Unknown"),
        (SystemExit(), "Unknown"),
    ],
    ids=lambda value: f"{type(value).__module__}.{value!r}",
)
def test_a_built_in_exception_has_its_reason(error: BaseException, reason: str) -> None:
    """The standard library's errors count as what they mean for a message."""
    assert classify(error) == reason


def test_a_cancelled_task_is_cancelled_before_it_is_a_task_error() -> None:
    """It arrives as RayTaskError(TaskCancelledError), which is a RayTaskError too."""
    error = task_error(RAY.TaskCancelledError())
    assert isinstance(error, RAY.RayTaskError)
    assert classify(error) == "Cancelled"
    assert classify(type(error)) == "Cancelled"


@pytest.mark.parametrize(
    "cause",
    [
        ValueError("x"),
        TimeoutError("the handler's own"),
        errors.MailboxFull("met further on"),
        RAY.ActorUnavailableError("further on", None),
        TypeError("cannot pickle what the handler tried to"),
    ],
    ids=repr,
)
def test_what_a_handler_raised_is_a_handler_error_whatever_it_is(cause: BaseException) -> None:
    """Neither the cause's built-in class nor its own label says anything about this message."""
    error = task_error(cause)
    assert (classify(error), may_have_run(error)) == ("HandlerError", True)
    assert classify(type(error)) == "HandlerError"


def test_a_task_error_whose_cause_cannot_be_subclassed_is_a_handler_error() -> None:
    """Where Ray cannot make the double class, the plain one is left, with the cause on it."""
    wrapped = RAY.RayTaskError("f", "Traceback", ValueError("x"), proctitle="p", pid=1, ip="0")
    assert classify(wrapped) == "HandlerError"
    wrapped = RAY.RayTaskError("f", "Traceback", RAY.TaskCancelledError(), proctitle="p", pid=1, ip="0")
    assert classify(wrapped) == "Cancelled"


def test_a_reply_that_cannot_be_encoded_is_malformed_and_ran() -> None:
    """Ray hides its own frames: the first one it shows is its pickler's, not the user's."""
    frames = (
        '  File "python/ray/_raylet.pyx", line 1, in ray._raylet.CoreWorker.store_task_outputs\n'
        '  File "/x/ray/_private/serialization.py", line 1, in serialize\n'
        "    return self._serialize_to_msgpack(value)\n"
        '  File "/x/ray/cloudpickle/cloudpickle.py", line 1, in dumps\n'
        "    cp.dump(obj)\n"
    )
    error = task_error(TypeError("cannot pickle '_thread.lock' object"), frames)
    assert (classify(error), may_have_run(error)) == ("MalformedMessage", True)


def test_a_handler_that_pickles_in_vain_is_a_handler_error() -> None:
    """The same failure inside the method shows the method's own frame first."""
    frames = (
        '  File "user.py", line 1, in method\n    dumps(lock)\n'
        '  File "/x/ray/cloudpickle/cloudpickle.py", line 1, in dumps\n'
    )
    error = task_error(TypeError("cannot pickle '_thread.lock' object"), frames)
    assert classify(error) == "HandlerError"


def test_an_argument_that_cannot_be_decoded_is_malformed_and_did_not_run() -> None:
    """The call fails before the method starts; Ray's note about the argument says so."""
    frames = '  File "python/ray/_raylet.pyx", line 1, in ray._raylet.raise_if_dependency_failed\n'
    error = task_error(RAY.RaySystemError(ModuleNotFoundError("no such module")), frames)
    assert (classify(error), may_have_run(error)) == ("MalformedMessage", False)


def test_a_reply_that_cannot_be_decoded_is_malformed_and_a_failed_worker_is_unavailable() -> None:
    """Ray has one class for both: the first one carries the error met while decoding."""
    decoding = RAY.RaySystemError(ModuleNotFoundError("no such module"), "traceback")
    assert (classify(decoding), may_have_run(decoding)) == ("MalformedMessage", True)
    assert classify(RAY.RaySystemError("the worker did not start")) == "RunnerUnavailable"


def test_an_actor_that_never_came_to_life_ran_no_method() -> None:
    """Its death is the end of a call in flight, except when its own __init__ raised."""
    failed = RAY.RayTaskError("A.__init__", "tb", ValueError(), proctitle="p", pid=1, ip="0")
    at_birth = RAY.ActorDiedError(failed)
    later = RAY.ActorDiedError()
    assert classify(at_birth) == classify(later) == "RunnerUnavailable"
    assert (may_have_run(at_birth), may_have_run(later)) == (False, True)


def test_classifying_needs_no_ray() -> None:
    """Counting an error never loads Ray, nor OpenTelemetry."""
    program = (
        "import sys, observe.metrics, observe.node_agent; from observe.failure import classify;"
        "assert classify(ValueError()) == 'Unknown';"
        "assert not {'ray', 'opentelemetry', 'entities', 'cluster_app'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
