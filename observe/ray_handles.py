"""Instrumented actor handles: Ray's own, whose calls are counted on their way.

Decides where a call is taken hold of, and that nothing else about a handle changes. Does not decide how a call
is followed (`observe.outgoing_calls`) or its answer seen (`observe.ray_answers`).

All ways to call a method of an actor (`remote`, `options`, `_remote`, a compiled or interpreted graph) end in
one method of the handle, and that is where we are: so a subclass of the handle is all it takes, which Ray and the
user can use wherever a handle is expected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle

from observe.labels import label
from observe.outgoing_calls import CallTally, OutgoingCall, Suspicion, call_tally, told
from observe.ray_answers import RayAnswers, error_in_hand

__all__ = ["InstrumentedGenerator", "InstrumentedHandle", "actor_class_name", "instrumented"]

# Ray ships no type for it.
ObjectRefGenerator: Any = ray.ObjectRefGenerator  # pyright: ignore[reportAttributeAccessIssue]

_answers = RayAnswers()
_call: Callable[..., Any] = ActorHandle._actor_method_call


class InstrumentedHandle(ActorHandle[Any]):
    """A handle whose calls are counted. The plain one it was made of holds the actor, this one holds that."""

    def __init__(self, plain: ActorHandle[Any], tally: CallTally) -> None:
        self.__dict__.update(plain.__dict__)
        self._observe_plain = plain
        self._observe_tally = tally

    def __del__(self) -> None:
        """Nothing: Ray counts the plain handle, once."""

    def _actor_method_call(  # type: ignore[override]  # options are passed on, whichever Ray has
        self, method_name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        if method_name.startswith("__ray_"):
            return _call(self, method_name, args, kwargs, **options)  # Ray's own, and no message
        tally = self._observe_tally
        # With no return value Ray tells nobody how the call went, so one is asked for: it is dropped unseen.
        unwanted = options.get("num_returns") == 0
        if unwanted:
            options["num_returns"] = 1
        tally.begin()
        started_s = time.perf_counter()
        try:
            returned = _call(self, method_name, args, kwargs, **options)
        except BaseException as error:
            tally.refused(time.perf_counter() - started_s, error)
            raise
        if isinstance(returned, ObjectRef):
            tally.watch(OutgoingCall(tally, started_s, returned, unwanted))
        elif isinstance(returned, list):
            # Ray stores the values in their order, and an error for all that come after the first it could not.
            tally.watch(OutgoingCall(tally, started_s, returned[-1]))
        elif isinstance(returned, ObjectRefGenerator):
            call = _StreamingCall(tally, started_s, returned.completed())
            # The very object that Ray made: another one would close the stream twice.
            returned._observe_call = call
            returned.__class__ = InstrumentedGenerator
            tally.watch(call)
        return None if unwanted else returned

    def _serialization_helper(self) -> Any:
        # Ray writes a handle that is itself an argument or a value, not part of one, in a form of its own, which
        # knows only plain handles. It asks here for the bytes, and adds one more to them; what it gets then is no
        # bytes, and so is pickled. The reference is counted there: hence "weak" here.
        return _Travelling(self), None, True

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrived, (self._observe_plain, self._observe_tally.entity_type)


class InstrumentedGenerator(ObjectRefGenerator):  # type: ignore[misc]  # see above
    """A stream of results whose call is counted; made only from one of Ray's.

    Ray says when a generator has run to its end, but an exception that it raised is an ordinary item of the
    stream. So its call counts as ended when it has run *and* its reader has come to the end, has met the
    exception or has let the stream go; its latency goes up to the first of these two.
    """

    _observe_call: _StreamingCall

    def _next_sync(self, timeout_s: float | None = None) -> Any:
        try:
            item = super()._next_sync(timeout_s)
        except StopIteration:
            self._observe_call.read()
            raise
        return self._observe_item(item)

    async def _next_async(self, timeout_s: float | None = None) -> Any:
        try:
            item = await super()._next_async(timeout_s)
        except StopAsyncIteration:
            self._observe_call.read()
            raise
        return self._observe_item(item)

    def _observe_item(self, item: Any) -> Any:
        for reference in item if isinstance(item, list | tuple) else (item,):
            if not reference.is_nil() and (suspicion := error_in_hand(reference)) is not None:
                self._observe_call.read(suspicion)
        return item

    def __del__(self) -> None:
        self._observe_call.read()
        super().__del__()


class _StreamingCall(OutgoingCall):
    """A call that ends twice: where it runs, and where its results are read."""

    __slots__ = ("_ran", "_was_read")

    def __init__(self, tally: CallTally, started_s: float, reference: Any) -> None:
        super().__init__(tally, started_s, reference)
        self._ran = self._was_read = False

    def __call__(self, problem: object = None) -> None:
        reference = self.reference
        if reference is None:
            return
        self.took_s = time.perf_counter() - self.started_s
        suspicion = error_in_hand(reference) if problem is None else told(problem)
        self.looked_at(suspicion)
        self._ran = True
        # Each side says its own first and then asks for the other's: whoever is second ends the call.
        if suspicion is not None or self._was_read:
            self.tally.end(self)

    def read(self, suspicion: Suspicion | None = None) -> None:
        if suspicion is not None and self.suspicion is None:
            self.suspicion = suspicion
        self._was_read = True
        if self._ran:
            self.tally.end(self)


class _Travelling:
    """What Ray gets instead of the bytes of a handle."""

    def __init__(self, handle: InstrumentedHandle) -> None:
        self._handle = handle

    def __add__(self, flag: bytes) -> _Travelling:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._handle.__reduce__()


def instrumented(handle: ActorHandle[Any], entity_type: object = None) -> InstrumentedHandle:
    """The handle with its calls counted as `entity_type`, by default its class's name."""
    if isinstance(handle, InstrumentedHandle):
        if entity_type is None:
            return handle
        handle = handle._observe_plain  # under another name, but still once
    named = actor_class_name(handle) if entity_type is None else entity_type
    name = label(entity_type=named)["entity_type"]
    return InstrumentedHandle(handle, call_tally(name, _answers))


def actor_class_name(handle: ActorHandle[Any]) -> str:
    """The name of an actor's class, without the modules, classes and functions around it."""
    full: str = handle._ray_actor_creation_function_descriptor.class_name
    return full.rpartition(".")[2]


def _arrived(plain: ActorHandle[Any], entity_type: str) -> InstrumentedHandle:
    return instrumented(plain, entity_type)
