"""What a class says about itself: which type of entity it is, and which of its methods are messages.

Decides names, options and how arguments must look. `@message` and `@entity` only tag: a decorated method stays a
plain function and a decorated class a plain class, so unit tests call them directly.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from entities.demand import NO_DEMAND, Demand
from entities.response import EntityResponse
from entities.source import class_digest

if TYPE_CHECKING:
    from entities.entity_class import Entity

__all__ = ["BoundMessage", "EntityDefinition", "Message", "MessageDeclaration", "define", "entity", "message"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
E = TypeVar("E", bound="Entity")

_MESSAGE_TAG = "__cluster_message__"
_ENTITY_TAG = "__cluster_entity__"


class BoundMessage(Protocol[P, R_co, T_co]):
    """A message of one entity: call it directly inside and in unit tests, send it with ``.remote`` outside."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the method itself."""
        ...

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> EntityResponse[T_co]:
        """Send it; whatever goes wrong ends in the reply."""
        ...

    def options(self, *, timeout_s: float | None = ...) -> BoundMessage[P, R_co, T_co]:
        """The same message with a deadline of its own, in seconds."""
        ...


class Message(Protocol[P, R_co, T_co]):
    """A declared method as a type checker sees it.

    Not parameterised by the class: pyright would then refuse an override in a subclass.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Message[P, R_co, T_co]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundMessage[P, R_co, T_co]: ...


class Declare(Protocol):
    """``@message(...)`` with options: a decorator, coroutine functions first."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /
    ) -> Message[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], T], /) -> Message[P, T, T]: ...


@overload
def message(
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /
) -> Message[P, Coroutine[Any, Any, T], T]: ...


@overload
def message(function: Callable[Concatenate[Any, P], T], /) -> Message[P, T, T]: ...


@overload
def message(*, idempotent: bool = ..., blocking: bool = ...) -> Declare: ...


def message(function: Any = None, /, *, idempotent: bool = False, blocking: bool = False) -> Any:
    """Declare a method as a message: only declared methods can be called from outside.

    :param idempotent: running it twice does no harm, so a message whose runner died under it is sent again
        instead of ending with `RunnerUnavailable`.
    :param blocking: the function may block (files, sockets, long computations): it runs on one of the runner's
        `blocking_threads`, still one message at a time for its entity, and may call ``.result()`` there.
    :raises TypeError: the decorated object is not a plain (async) function, or a generator function; or a blocking
        one is a coroutine function.
    """

    def declare(function: Any) -> Any:
        if not inspect.isfunction(function):
            raise TypeError(f"@message declares a function defined in the class body, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@message {function.__qualname__} is a generator; a message has one reply, so return a list"
            )
        if function.__name__.startswith("_"):
            raise TypeError(
                f"@message {function.__qualname__}: a name with a leading underscore is not public"
            )
        if blocking and inspect.iscoroutinefunction(function):
            raise TypeError(
                f"@message(blocking=True) {function.__qualname__} is a coroutine function, which runs on the event "
                "loop: make it a plain 'def' to run on a thread, or leave out blocking"
            )
        setattr(function, _MESSAGE_TAG, {"idempotent": idempotent, "blocking": blocking})
        return function

    return declare if function is None else declare(function)


@dataclasses.dataclass(frozen=True, slots=True)
class EntityOptions:
    """The options of `@entity`, checked."""

    name: str | None = None
    max_idle_time: float | None = 60.0
    mailbox_capacity: int = 4096
    concurrency: int = 1
    reentrant: bool = False
    hosting: str = "shard"
    group: str = "default"
    runtime_env: Mapping[str, Any] | None = None
    demand: Demand = NO_DEMAND

    def __post_init__(self) -> None:
        for text in ("name", "group"):  # they travel: a class derived from str may be unknown elsewhere
            if isinstance(getattr(self, text), str):
                object.__setattr__(self, text, str.__str__(getattr(self, text)))
        if self.name is not None and (not isinstance(self.name, str) or not self.name or "/" in self.name):
            raise ValueError(f"@entity(name={self.name!r}): a type name is a non-empty str without '/'")
        if self.max_idle_time is not None and not self.max_idle_time > 0:
            raise ValueError(
                f"@entity(max_idle_time={self.max_idle_time!r}): seconds above 0, or None for never"
            )
        if not isinstance(self.mailbox_capacity, int) or self.mailbox_capacity < 1:
            raise ValueError(f"@entity(mailbox_capacity={self.mailbox_capacity!r}): at least 1 message")
        if not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise ValueError(f"@entity(concurrency={self.concurrency!r}): at least 1 message at a time")
        if self.hosting not in ("shard", "actor"):
            raise ValueError(f"@entity(hosting={self.hosting!r}): 'shard' or 'actor'")
        asked = ", ".join(self.demand.given())
        if asked and self.hosting == "shard":
            raise ValueError(
                f"@entity({self.demand}): {asked} can only be had by an entity with a process of its own: add "
                "hosting='actor', or leave it out"
            )
        if not self.group or ":" in self.group:
            raise ValueError(f"@entity(group={self.group!r}): a group name is a non-empty str without ':'")
        if self.runtime_env is not None and not (
            isinstance(self.runtime_env, Mapping) and all(isinstance(key, str) for key in self.runtime_env)
        ):
            raise ValueError(
                f"@entity(runtime_env={self.runtime_env!r}): a dict as Ray's runtime_env, or None"
            )


def entity(
    bare: None = None,
    /,
    *,
    name: str | None = None,
    max_idle_time: float | None = 60.0,
    mailbox_capacity: int = 4096,
    concurrency: int = 1,
    reentrant: bool = False,
    hosting: Literal["shard", "actor"] = "shard",
    group: str = "default",
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    runtime_env: Mapping[str, Any] | None = None,
) -> Callable[[type[E]], type[E]]:
    """Declare a class as an entity type.

    :param name: the type's name in addresses and labels; the class's name if None.
    :param max_idle_time: seconds without a message after which an entity is let go; None for never.
    :param mailbox_capacity: messages that may wait for one entity; one more ends with `MailboxFull`.
    :param concurrency: messages that one entity handles at a time.
    :param reentrant: a call chain that comes back to the entity is handled at once instead of failing.
    :param hosting: ``"shard"``: an object inside a runner; ``"actor"``: a process of its own.
    :param group: the shard group that its ids are spread over.
    :param num_cpus: CPUs that its own process reserves; none if None. This and what follows need hosting "actor".
    :param num_gpus: GPUs that it reserves, and sees.
    :param resources: other resources by name; ``"memory"`` in bytes.
    :param runtime_env: the Ray `runtime_env` that its code needs. A process of its own gets it. Runners have that of
        the job which started the service; a type that needs another there is refused when it is registered.
    :raises ValueError: an option has no meaning.
    :raises TypeError: there are no parentheses.
    """
    if bare is not None:
        raise TypeError(
            "@entity takes its options by name, and parentheses also where there are none: @entity()"
        )
    demand = Demand(num_cpus, num_gpus, resources, runtime_env if hosting == "actor" else None)
    options = EntityOptions(
        name, max_idle_time, mailbox_capacity, concurrency, reentrant, hosting, group, runtime_env, demand
    )

    def declare(cls: type[E]) -> type[E]:
        setattr(cls, _ENTITY_TAG, options)
        define(cls)  # what is wrong with the class is said where it is written
        return cls

    return declare


@dataclasses.dataclass(frozen=True, slots=True)
class MessageDeclaration:
    """One declared message of a type: its function and what may be passed to it.

    :ivar blocking: the function runs on a thread of its own.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    idempotent: bool
    blocking: bool
    signature: inspect.Signature
    minimum: int
    maximum: float

    @classmethod
    def of(cls, name: str, function: Any) -> MessageDeclaration:
        """Read a tagged function."""
        parameters = list(inspect.signature(function).parameters.values())[1:]  # without self
        by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needs_keyword = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        return cls(
            name,
            function,
            inspect.iscoroutinefunction(function),
            bool(getattr(function, _MESSAGE_TAG)["idempotent"]),
            bool(getattr(function, _MESSAGE_TAG)["blocking"]),
            inspect.Signature(parameters),
            # A required keyword makes every call without keywords wrong: no number of positions is enough.
            1_000_000 if needs_keyword else sum(p.default is p.empty for p in by_position),
            float("inf") if variadic else len(by_position),
        )

    def binds(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> str | None:
        """Why these arguments do not fit, or None if they do. Counting is enough for nearly every message."""
        if not kwargs and self.minimum <= len(args) <= self.maximum:
            return None
        try:
            self.signature.bind(*args, **(kwargs or {}))
        except TypeError as error:
            return f"{error}; {self.name}{self.signature}"
        return None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EntityDefinition:
    """An entity type: its class, options and messages.

    :ivar told_digest: the digest, where it is known already.
    """

    name: str
    cls: type[Entity]
    options: EntityOptions
    messages: Mapping[str, MessageDeclaration]
    told_digest: str = ""

    @property
    def digest(self) -> str:
        """Of source and options, so that two drivers with the same code agree (pickle bytes differ from run to run).

        Found out when first asked for: what the class mentions may stand below it in its module.
        """
        if not self.told_digest:
            object.__setattr__(self, "told_digest", class_digest(self.cls, repr(self.options)))
        return self.told_digest

    def as_shipped(self, digest: str) -> EntityDefinition:
        """The same type, in a process that was told the digest: there the source may not be at hand."""
        definition = dataclasses.replace(self, told_digest=digest)
        setattr(self.cls, _definitions_attribute, definition)
        return definition


_definitions_attribute = "__cluster_definition__"


def define(cls: type[Entity]) -> EntityDefinition:
    """The definition of an entity class, computed once per class.

    :raises TypeError: `cls` is not a subclass of `Entity`, or its `__init__` needs arguments.
    """
    known = cls.__dict__.get(_definitions_attribute) if isinstance(cls, type) else None
    if known is not None and known.cls is cls and known.options is getattr(cls, _ENTITY_TAG, known.options):
        return known  # type: ignore[no-any-return]  # stored by this function
    from entities.entity_class import Entity

    if not (isinstance(cls, type) and issubclass(cls, Entity)) or cls is Entity:
        raise TypeError(f"{cls!r} is not an entity class; derive it from cluster_app.Entity")
    options: EntityOptions = getattr(cls, _ENTITY_TAG, None) or EntityOptions()
    if _ENTITY_TAG not in cls.__dict__ and options.name is not None:
        options = dataclasses.replace(options, name=None)  # an undecorated subclass is a type of its own
    _check_constructor(cls)
    messages = {
        name: MessageDeclaration.of(name, function)
        for name, function in inspect.getmembers(cls, inspect.isfunction)
        if hasattr(function, _MESSAGE_TAG)
    }
    definition = EntityDefinition(options.name or cls.__name__, cls, options, messages)
    setattr(cls, _definitions_attribute, definition)
    return definition


def _check_constructor(cls: type[Entity]) -> None:
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return
    needed = [
        p.name for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    if needed:
        raise TypeError(
            f"{cls.__qualname__}.__init__ needs {', '.join(needed)}, but the cluster activates an entity without "
            "arguments; give defaults, or set them in a message"
        )
