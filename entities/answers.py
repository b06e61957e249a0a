"""How a message ends that did not end with its handler's own value."""

from __future__ import annotations

import asyncio
import traceback

from entities.activation import HostedType
from entities.address import EntityAddress
from entities.annex import AnnexLost, AnsweredThere
from entities.delivery import Delivery
from entities.errors import (
    ActivationFailed,
    Cancelled,
    ClusterError,
    HandlerError,
    MalformedMessage,
    RunnerUnavailable,
    Timeout,
    describe,
)
from entities.handler_threads import RaisedOnThread

__all__ = ["activation_failed", "address_of", "handler_failed", "unpicklable", "unstarted"]


def address_of(delivery: Delivery) -> EntityAddress:
    """Whom a message is for."""
    return EntityAddress(delivery.message.hosted.definition.name, delivery.entity_id)


def activation_failed(hosted: HostedType, entity_id: str, raised: BaseException) -> ActivationFailed:
    """The entity did not come to life; what it raised is the cause."""
    error = ActivationFailed(describe(raised), address=EntityAddress(hosted.definition.name, entity_id))
    error.__cause__ = raised
    return error


def unstarted(delivery: Delivery, detail: str = "") -> ClusterError:
    """A message that did not start: cancelled, or its time was over.

    One that is to run again has run, in a process that was lost.
    """
    kind = Cancelled if delivery.cancelled or detail else Timeout
    return kind(
        detail or "it had not started",
        address=address_of(delivery),
        method=delivery.message.name,
        may_have_run=hasattr(delivery, "ran"),
    )


def unpicklable(delivery: Delivery, value: object, raised: BaseException) -> MalformedMessage:
    """The handler returned something that cannot travel."""
    return MalformedMessage(
        f"the reply, a {type(value).__name__}, cannot be pickled: {describe(raised)}",
        address=address_of(delivery),
        method=delivery.message.name,
        may_have_run=True,
    )


def handler_failed(delivery: Delivery, raised: BaseException) -> ClusterError:
    """The handler raised; what it raised is the cause, whatever it was."""
    if isinstance(raised, RaisedOnThread):
        raised = raised.error
    if delivery.cancelled and isinstance(raised, asyncio.CancelledError):
        return Cancelled(address=address_of(delivery), method=delivery.message.name, may_have_run=True)
    if isinstance(raised, AnsweredThere):
        return raised.error
    if isinstance(raised, AnnexLost):
        return RunnerUnavailable(
            str(raised), address=address_of(delivery), method=delivery.message.name, may_have_run=True
        )
    error = HandlerError(
        describe(raised),
        traceback_text="".join(traceback.format_exception(raised)),
        address=address_of(delivery),
        method=delivery.message.name,
    )
    error.__cause__ = raised
    return error
