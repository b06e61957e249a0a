"""Which of the messages and activations that arrive with a trace context are followed.

Decides just that. What follows them (`traced_delivery`) loads OpenTelemetry, so it is loaded when the first one comes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from entities.delivery import Delivery
from observe import sampling, tracing
from observe.span_context import SAMPLED, SpanContext, read_context
from observe.spans import CONSUMER, INTERNAL
from observe.traces import Traces, process_traces

if TYPE_CHECKING:
    from cluster_app.traced_delivery import TracedBirth, TracedDelivery

__all__ = ["follow_birth", "follow_delivery", "follow_handed_on"]


def follow_delivery(
    delivery: Delivery,
    trace: str,
    place: str,
    traces: Traces,
    now: Callable[[], float],
    kind: int = CONSUMER,
) -> TracedDelivery | None:
    """Have a message that came with a trace context followed from here on; None if there is nothing to follow.

    :param place: the runner's id, or the name of the entity's own process.
    """
    parent = _sampled(trace)
    if parent is None:
        return None
    delivery.origin = trail = _traced().TracedDelivery(delivery, parent, place, traces, now, kind)
    return trail  # type: ignore[no-any-return]  # the module is Any, for it is loaded late


def follow_handed_on(
    delivery: Delivery, trace: str, place: str, traces: Traces | None, now: Callable[[], float]
) -> TracedDelivery | None:
    """The same in an entity's own process, where the message was handed on to.

    :param traces: where the spans go; the process's own if None.
    """
    sampling.begin()  # by now; who sends nothing has not begun
    return follow_delivery(delivery, trace, place, traces or process_traces, now, INTERNAL)


def follow_birth(
    trace: str,
    entity_type: str,
    entity_id: str,
    place: str,
    traces: Traces | None,
    now: Callable[[], float],
) -> TracedBirth | None:
    """Have an activation that another process asks for followed; `traces` as for `follow_handed_on`."""
    sampling.begin()
    parent = _sampled(trace)
    if parent is None:
        return None
    kept = traces or process_traces
    return _traced().TracedBirth(parent, entity_type, entity_id, place, kept, now, remote=True)  # type: ignore[no-any-return]


def _sampled(trace: str) -> SpanContext | None:
    parent = read_context(trace)
    if parent is None or not parent.flags & SAMPLED or sampling.is_off():
        return None
    _traced()
    # Before the user's code that is about to run: it may use OpenTelemetry for the first time.
    tracing.offer_again()
    _user_instruments().offer_again()
    return parent


# Loaded with the first message that is followed: most processes follow none.
@cache
def _traced() -> Any:
    from cluster_app import traced_delivery

    return traced_delivery


@cache
def _user_instruments() -> Any:
    from observe import user_instruments

    return user_instruments
