"""Which messages are part of a trace, and which begin one.

Decides by OpenTelemetry's current span and by the standard variables, read when the process first sends. A message
whose sender is in a sampled span is part of that trace. One whose sender is in no span begins a trace only where traces
are wanted: a variable of their own says so (`OTEL_TRACES_SAMPLER`, `OTEL_TRACES_EXPORTER`,
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), not just the endpoint that metrics share.

`look` is all that a message pays that is not traced: one reading of a context variable. Where traces begin by chance, a
sender draws which of many messages at once (`Draw`): a random number for each that is kept, none for the others. The
trace ids of those are such that the SDK's samplers would decide the same.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from observe.span_context import RANDOM, SAMPLED, SpanContext

__all__ = [
    "Draw",
    "Sampling",
    "begin",
    "begins",
    "chance",
    "context_variable",
    "first",
    "is_disabled",
    "is_off",
    "look",
    "parent",
    "root",
    "traces_wanted",
]

logger = logging.getLogger(__name__)

_ALL = 1 << 64
_LIMIT = _ALL - 1


class Sampling:
    """What the standard variables say of the first span of a trace, and of those after it.

    :ivar bound: a trace is kept if the lower half of its id is below this: 0 for none, 2**64 for all.
    :ivar parent_based: what comes later goes by its parent; else by the trace id too.
    """

    def __init__(self, bound: int, *, parent_based: bool = True) -> None:
        self.bound = bound
        self.parent_based = parent_based

    def continues(self, trace_id: int, sampled: bool) -> bool:
        """Whether a span with a parent is kept."""
        return sampled if self.parent_based else trace_id & _LIMIT < self.bound

    def gap(self) -> int:
        """How many messages before the next one that begins a trace do not; for one draw, of a chance above 0."""
        if self.bound >= _ALL:
            return 0
        return int(math.log(1.0 - random.random()) / math.log1p(-self.bound / _ALL))


class Draw:
    """Which messages of one sender begin a trace, in the order in which it sends them.

    Each is kept with the same chance, whatever became of others: only the distance to the next one kept is drawn.
    """

    def __init__(self) -> None:
        self._of: Sampling | None = None
        self._gap = 0

    def among(self, count: int) -> list[int]:
        """The positions, among so many messages that are next, of those that begin one."""
        drawn_of = _sampling
        if drawn_of is not self._of:
            self._of = drawn_of
            self._gap = drawn_of.gap()
        kept = []
        position = self._gap
        while position < count:
            kept.append(position)
            position += 1 + drawn_of.gap()
        self._gap = position - count
        return kept


_nothing: Callable[[], object] = ContextVar[None]("nothing", default=None).get

look: Callable[[], object] = _nothing
"""OpenTelemetry's context where a message is sent that may be part of a trace; else something false."""

chance = 0.0
"""Of a message whose sender is in no span, to begin a trace."""

_sampling = Sampling(0)
_begun = False
_off = False


def begin(environ: Mapping[str, str] | None = None, *, anew: bool = False) -> None:
    """Read the variables, and have `look` see OpenTelemetry's current span from now on. Once is enough.

    :param anew: read them again.
    """
    global look, chance, _sampling, _begun, _off
    if _begun and not anew:
        return
    environ = os.environ if environ is None else environ
    _begun = True
    _off = is_disabled(environ)
    _sampling = _sampling_from(environ) if traces_wanted(environ) and not _off else Sampling(0)
    look = _nothing if _off else _current_context()
    chance = _sampling.bound / _ALL


def parent(found: object, *, inside: bool) -> SpanContext | None:
    """What a message's span is a child of; its `span_id` is 0 where a trace begins. None: the message is not traced.

    :param found: what `look` has returned.
    :param inside: it is sent by a handler; see `first`.
    """
    from opentelemetry import trace

    context: Any = found
    span = trace.get_current_span(context).get_span_context()
    if not span.is_valid:  # something else is in the context: baggage, say
        return first(inside=inside)
    if not _sampling.continues(span.trace_id, span.trace_flags.sampled):
        return None
    return SpanContext(
        span.trace_id,
        span.span_id,
        span.trace_flags | SAMPLED,
        span.trace_state.to_header() if span.trace_state else "",
    )


def begins() -> bool:
    """Whether this process, which has begun, may begin a trace at all."""
    return _sampling.bound > 0


def is_off() -> bool:
    """Whether this process, which has begun, follows no message at all."""
    return _off


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry is switched off altogether."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def traces_wanted(environ: Mapping[str, str]) -> bool:
    """Whether messages may begin traces: a variable that is about traces says so."""
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if is_disabled(environ) or exporters == "none":
        return False
    return bool(
        exporters
        or environ.get("OTEL_TRACES_SAMPLER", "").strip()
        or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    )


def first(*, inside: bool) -> SpanContext | None:
    """The root of a trace, if chance will have it that one begins here.

    :param inside: it is sent by a handler. Of that one's message the decision was taken already, and not to trace it
        holds for all that it causes.
    """
    return root() if random.random() < chance and not inside else None


def root() -> SpanContext:
    """The root of a new trace, whose id any sampler of that chance keeps. Raises ValueError where the chance is 0."""
    bound = _sampling.bound
    if not bound:
        raise ValueError("no message begins a trace here")
    bits = random.getrandbits(128)
    low = (bits & _LIMIT) * bound >> 64  # below the bound, each as likely as any
    return SpanContext((bits & ~_LIMIT) | low or 1, 0, SAMPLED | RANDOM)


def context_variable() -> ContextVar[Any] | None:
    """Where OpenTelemetry keeps its current context, if that is a context variable, which is the rule."""
    from opentelemetry import context

    variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    return variable if isinstance(variable, ContextVar) else None


def _current_context() -> Callable[[], Any]:
    from opentelemetry import context

    variable = context_variable()  # every message pays for this
    return context.get_current if variable is None else variable.get


def _sampling_from(environ: Mapping[str, str]) -> Sampling:
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    parent_based = kind != name
    if kind == "always_on":
        return Sampling(_ALL, parent_based=parent_based)
    if kind == "always_off":
        return Sampling(0, parent_based=parent_based)
    if kind == "traceidratio":
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
        try:
            ratio = float(text or "1.0")
            if not 0.0 <= ratio <= 1.0:
                raise ValueError
        except ValueError:
            logger.error(
                "OTEL_TRACES_SAMPLER_ARG=%r: a ratio from 0 to 1; until then no message begins a trace", text
            )
            return Sampling(0)
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        return Sampling(TraceIdRatioBased.get_bound_for_rate(ratio), parent_based=parent_based)
    logger.error(
        "OTEL_TRACES_SAMPLER=%r: one of always_on, always_off, traceidratio, or these with parentbased_ before; "
        "until then no message begins a trace",
        name,
    )
    return Sampling(0)
