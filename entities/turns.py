"""Whose turn it is: which of an entity's messages runs, which waits and which is refused.

Decides from acceptance to answer: mailbox, concurrency, reentrance, cancellation. Does not know where messages come
from (an `Answerable` does), on which task they run (`crew`), nor when an entity comes to life or goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from entities.activation import Activation, Phase
from entities.annex import AnnexLost
from entities.answers import address_of, handler_failed, unstarted
from entities.crew import Crew, Gate
from entities.delivery import Delivery
from entities.errors import CallCycle, ClusterError, MailboxFull, MalformedMessage

__all__ = ["Turns"]

_ACTIVE = Phase.ACTIVE  # a global is read faster than an attribute of an enum


class Turns:
    """The messages of one host that have been accepted and not answered.

    :param deactivate: called with an activation that is leaving, when nothing runs in it any more.
    :param again: tells whether a message whose process was lost is run again, and sees to it.
    :param slow: see `Crew`.
    """

    def __init__(
        self,
        now: Callable[[], float],
        gate: Gate,
        deactivate: Callable[[Activation], None],
        again: Callable[[Delivery, AnnexLost], bool],
        slow: Callable[[Delivery, float], None],
    ) -> None:
        self._deactivate = deactivate
        self._run_again = again
        self.crew = Crew(now, gate, self._finished, self._expired, slow)

    # -- a message begins

    def accept(self, delivery: Delivery, activation: Activation) -> BaseException | None:
        """Take a message into an entity's care; the error says why not. Counts it as received if taken."""
        message = delivery.message
        hosted = activation.hosted
        if hosted is not message.hosted:  # the entity runs replaced code
            older = hosted.messages.get(message.name)
            if older is None:
                return MalformedMessage(
                    "the living entity's older code does not declare it", address=address_of(delivery)
                )
            delivery.message = message = older
        wrong = message.declaration.binds(delivery.args, delivery.kwargs)
        if wrong is not None:
            return MalformedMessage(wrong, address=address_of(delivery), method=message.name)
        delivery.activation = activation
        running = activation.running
        if not running and activation.mailbox is None and activation.phase is Phase.ACTIVE:
            activation.running = (delivery,)
            self.crew.start(delivery)
        else:
            error = self.queue(delivery, activation)
            if error is not None:
                return error
        if not delivery.counted:
            received = hosted.received
            received["send"] = received.get("send", 0) + 1
        return None

    def queue(self, delivery: Delivery, activation: Activation) -> ClusterError | None:
        """Start a message if it may run beside what does, or let it wait; the error says why neither."""
        options = activation.hosted.definition.options
        if delivery.chain and self._holds(activation, delivery):
            if not options.reentrant:
                return CallCycle(address=address_of(delivery), method=delivery.message.name)
            # The chain waits for this very message: behind the mailbox it would wait for itself.
            activation.running = (*activation.running, delivery)
            self.crew.start(delivery)
            return None
        if (
            activation.phase is Phase.ACTIVE
            and activation.mailbox is None
            and len(activation.running) < options.concurrency
        ):
            activation.running = (*activation.running, delivery)
            self.crew.start(delivery)
            return None
        if not activation.queue().offer(delivery):
            return MailboxFull(
                f"{options.mailbox_capacity} messages wait for this entity already",
                scope="mailbox",
                address=address_of(delivery),
                method=delivery.message.name,
            )
        return None

    @staticmethod
    def _holds(activation: Activation, delivery: Delivery) -> bool:
        held = {message_id for _, _, message_id in delivery.chain}
        return any(busy.id in held for busy in activation.running)

    async def may_run(self, activation: Activation) -> bool:
        """Wait until a hook of it may run; False when it was lost meanwhile."""
        await self.crew.may_run()
        return activation.phase is not Phase.GONE

    def next(self, activation: Activation) -> None:
        """Start what may start now, or have the entity go if that is due."""
        if activation.phase is Phase.LEAVING:
            if not activation.running:
                self._deactivate(activation)
            return
        mailbox = activation.mailbox
        concurrency = activation.hosted.definition.options.concurrency
        while (
            mailbox is not None and activation.phase is Phase.ACTIVE and len(activation.running) < concurrency
        ):
            delivery = mailbox.take()
            if not len(mailbox):
                activation.mailbox = mailbox = None
                del activation.hosted.waiting[activation.entity_id]
            activation.running = (*activation.running, delivery)
            self.crew.start(delivery)

    # -- a message ends

    def _finished(
        self, delivery: Delivery, value: Any, error: BaseException | None, started_at: float, ended_at: float
    ) -> None:
        message = delivery.message
        message.waited.append(started_at - delivery.accepted_at)
        if error is None:
            message.took_ok.append(ended_at - started_at)
        else:
            message.took_error.append(ended_at - started_at)
            if type(error) is AnnexLost and self._again(delivery, error, ended_at):
                return
            error = handler_failed(delivery, error)
        # As `_release`, without the call: every message comes by here.
        activation: Any = delivery.activation
        running = activation.running
        if len(running) == 1:
            activation.running = ()
        else:
            activation.running = tuple(busy for busy in running if busy is not delivery)
        particulars = delivery.particulars
        if particulars is None or not particulars.timer:
            activation.touched_at = ended_at
        if activation.mailbox is not None or activation.phase is not _ACTIVE:
            self.next(activation)
        delivery.origin.answer(delivery, value, error)

    def _again(self, delivery: Delivery, lost: AnnexLost, now: float) -> bool:
        if not self._run_again(delivery, lost):
            return False
        message = delivery.message
        message.hosted.waited.pop()  # its wait goes on
        if not lost.sent:
            message.took_error.pop()
        self._release(delivery, now)
        return True

    def _expired(self, delivery: Delivery, now: float) -> None:
        self._release(delivery, now)
        delivery.origin.answer(delivery, None, unstarted(delivery))

    def _release(self, delivery: Delivery, now: float) -> None:
        activation = delivery.activation
        assert activation is not None
        running = activation.running
        if len(running) == 1:
            activation.running = ()
        else:
            activation.running = tuple(busy for busy in running if busy is not delivery)
        if delivery.particulars is None or not delivery.particulars.timer:
            activation.touched_at = now
        if activation.mailbox is not None or activation.phase is not Phase.ACTIVE:
            self.next(activation)

    def cancel(self, delivery: Delivery) -> None:
        """Its sender wants it no more: queued, it never runs; running, an async handler gets CancelledError."""
        if delivery.cancelled:
            return
        delivery.cancelled = True
        if delivery.started:
            if delivery.task is not None:
                delivery.task.cancel()
            return
        activation = delivery.activation
        if activation is not None and self.take_out(activation, delivery):
            delivery.origin.answer(delivery, None, unstarted(delivery))

    @staticmethod
    def take_out(activation: Activation, delivery: Delivery) -> bool:
        """Take a message that waits out of the mailbox; False if it is not there."""
        if activation.mailbox is None or not activation.mailbox.remove(delivery):
            return False
        if not len(activation.mailbox):
            activation.mailbox = None
            del activation.hosted.waiting[activation.entity_id]
        return True
