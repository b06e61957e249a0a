"""Which span something belongs to, as it travels: the W3C trace context.

Decides how a context is written and read, and how ids are made. Does not decide who is traced: `observe.sampling` does.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

__all__ = ["RANDOM", "SAMPLED", "SpanContext", "new_span_id", "read_context"]

SAMPLED = 0x01
RANDOM = 0x02  # the trace id is random in its lower half, so samplers may go by that
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class SpanContext(NamedTuple):
    """One span of one trace.

    :ivar trace_id: 128 bits.
    :ivar span_id: 64 bits; 0 for a trace that has no span yet.
    :ivar flags: `SAMPLED`, `RANDOM`.
    :ivar state: the ``tracestate`` that came with it, or ``""``.
    """

    trace_id: int
    span_id: int
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether its spans are kept."""
        return bool(self.flags & SAMPLED)

    def child(self) -> SpanContext:
        """The context of a new span of the same trace."""
        return SpanContext(self.trace_id, random.getrandbits(64) or 1, self.flags, self.state)

    def beside(self, span_id: int) -> SpanContext:
        """The context of another span of the same trace."""
        return SpanContext(self.trace_id, span_id, self.flags, self.state)

    def write(self) -> str:
        """The ``traceparent``; then a space and the ``tracestate``, if there is one."""
        return self.write_beside(self.span_id)

    def write_beside(self, span_id: int) -> str:
        """What `beside` would write."""
        parent = f"00-{self.trace_id:032x}-{span_id:016x}-{self.flags:02x}"
        return f"{parent} {self.state}" if self.state else parent


def read_context(text: str) -> SpanContext | None:
    """What `SpanContext.write` wrote; None for what is no trace context."""
    parent, _, state = text.partition(" ")
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    context = SpanContext(int(trace_id, 16), int(span_id, 16), int(flags, 16), state)
    return context if context.trace_id and context.span_id else None


def new_span_id() -> int:
    """A random one; never 0, which would mean none."""
    return random.getrandbits(64) or 1
