"""Hosts entities: from an accepted message to its answer.

Decides when a message starts, waits or is refused, and when an entity is activated and let go. Does not know where
messages come from (an `Answerable` does), nor who may host what (the runner asks that before it calls).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from entities.activation import Activation, HostedType, Phase
from entities.annex import Annexes, AnnexLost
from entities.answers import activation_failed, address_of, handler_failed, unstarted
from entities.crew import Crew, Gate
from entities.declaration import EntityDefinition
from entities.delivery import Delivery, current_delivery, current_hook
from entities.errors import (
    ActivationFailed,
    CallCycle,
    ClusterError,
    MailboxFull,
    MalformedMessage,
)
from entities.handler_threads import HandlerThreads
from entities.idle import IdleWatch
from entities.slow_handlers import SlowHandlers
from entities.supervision import Supervision
from observe.instruments import Instrument, cluster
from observe.recorder import Recorder

__all__ = ["EntityHost", "Neighbours"]

_ACTIVE = Phase.ACTIVE  # a global is read faster than an attribute of an enum


class Neighbours(Protocol):
    """The rest of the cluster, as an entity sees it."""

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference to another entity."""
        ...


class EntityHost:
    """The entities of one runner. Everything here happens on one event loop.

    :param now: the clock, in seconds; timers use the loop, whose clock must be the same.
    :param blocking_threads: how many blocking handlers run at a time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        gate: Gate,
        recorder: Recorder,
        neighbours: Neighbours,
        blocking_threads: int = 16,
    ) -> None:
        self.now = now
        self.neighbours = neighbours
        self._loop = loop
        self._recorder = recorder
        self._types: dict[str, HostedType] = {}
        self._retired: list[HostedType] = []  # replaced code whose entities still live
        self._last_gone_at = now()
        self.slow = SlowHandlers(recorder)
        self.crew = Crew(now, gate, self._finished, self._expired, self.slow.stepped)
        self.supervision: Supervision
        self.threads = HandlerThreads(blocking_threads, loop, now, gate, lambda: self.crew.stopped)
        self.changes = 0
        """Grows whenever an entity comes or goes."""
        self.left: Callable[[Activation, BaseException | None], None] = _nobody_asks
        """Called when an activation has gone, with its error if it never came to life."""
        self._idle = IdleWatch(loop, now, lambda activation: self.let_go(activation, "idle"))
        recorder.add_gauges(self._gauges)

    def supervise(self, annexes: Annexes) -> None:
        """Say where entities with a process of their own get it."""
        self.supervision = Supervision(self, annexes, self._recorder)

    # -- types

    def register(self, definition: EntityDefinition) -> None:
        """Host this type; the same name with other code takes over for new activations."""
        known = self._types.get(definition.name)
        if known is not None and known.definition.digest == definition.digest:
            return
        hosted = HostedType(self, definition)
        if known is not None:
            self._retired.append(known)
            for activation in known.live.values():
                hosted.live[activation.entity_id] = activation
        self._types[definition.name] = hosted

    def hosted(self, name: str) -> HostedType | None:
        """The hosted type of that name, or None."""
        return self._types.get(name)

    # -- messages

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
            error = self._queue(delivery, activation)
            if error is not None:
                return error
        if not delivery.counted:
            received = hosted.received
            received["send"] = received.get("send", 0) + 1
        return None

    def _queue(self, delivery: Delivery, activation: Activation) -> ClusterError | None:
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

    def activate(
        self, hosted: HostedType, entity_id: str, shard: int, epoch: tuple[int, int], now: float
    ) -> Activation:
        """Bring an entity to life. Raises ActivationFailed when its `__init__` does."""
        if hosted.apart:
            return self.supervision.activate(hosted, entity_id, shard, epoch, now)
        cls = hosted.definition.cls
        token, outer = current_delivery.set(None), current_hook.get()
        try:
            entity = cls.__new__(cls)
            activation = Activation(hosted, entity_id, entity, shard, epoch, now)
            entity._activation = activation
            current_hook.set(activation)
            entity.__init__()  # type: ignore[misc]  # the address must be there before the user's code runs
        except BaseException as raised:
            hosted.activation_took["error"].append(self.now() - now)
            raise activation_failed(hosted, entity_id, raised) from raised
        finally:
            current_hook.set(outer)
            current_delivery.reset(token)
        hosted.live[entity_id] = activation
        self.changes += 1
        if hosted.hooks[0]:
            self.crew.spawn(self._activate_hook(activation))
        else:
            self._activated(activation, now)
        return activation

    async def _activate_hook(self, activation: Activation) -> None:
        current_hook.set(activation)
        try:
            await activation.entity.on_activate()
        except BaseException as raised:
            if activation.phase is Phase.GONE:
                return  # lost meanwhile: nothing of it counts, and nobody waits
            hosted = activation.hosted
            hosted.activation_took["error"].append(self.now() - activation.activated_at)
            for delivery in self._leave(activation, raised):
                delivery.origin.answer(
                    delivery, None, activation_failed(hosted, activation.entity_id, raised)
                )
            return
        if activation.phase is not Phase.GONE:
            self.came_to_life(activation)

    def came_to_life(self, activation: Activation) -> None:
        """What took its time is done: take it as activated, and start what waited for it."""
        self._activated(activation, activation.activated_at)
        self._next(activation)

    def _activated(self, activation: Activation, since: float) -> None:
        hosted = activation.hosted
        now = self.now()
        hosted.activated += 1
        hosted.activation_took["ok"].append(now - since)
        activation.activated_at = now
        if activation.phase is Phase.STARTING:
            activation.phase = Phase.LEAVING if activation.reason else Phase.ACTIVE
        self._idle.add(activation)

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
        activation.touched_at = ended_at
        if activation.mailbox is not None or activation.phase is not _ACTIVE:
            self._next(activation)
        delivery.origin.answer(delivery, value, error)

    def _again(self, delivery: Delivery, lost: AnnexLost, now: float) -> bool:
        if not self.supervision.again(delivery, lost):
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
        activation.touched_at = now
        if activation.mailbox is not None or activation.phase is not Phase.ACTIVE:
            self._next(activation)

    def _next(self, activation: Activation) -> None:
        """Start what may start now, or go if that is due."""
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

    def take_out(self, activation: Activation, delivery: Delivery) -> bool:
        """Take a message that waits out of the mailbox; False if it is not there."""
        if activation.mailbox is None or not activation.mailbox.remove(delivery):
            return False
        if not len(activation.mailbox):
            activation.mailbox = None
            del activation.hosted.waiting[activation.entity_id]
        return True

    # -- letting go

    def let_go(self, activation: Activation, reason: str) -> None:
        """Let an entity go as soon as nothing runs in it; what waits meets a new activation, in order."""
        if not self._on_loop():  # a blocking handler says so: before the loop hears that it has ended
            self._loop.call_soon_threadsafe(self.let_go, activation, reason)
            return
        if activation.phase is Phase.ACTIVE:
            activation.phase = Phase.LEAVING
            activation.reason = reason
            if not activation.running:
                self._deactivate(activation)
        elif activation.phase in (Phase.STARTING, Phase.STOPPING) and reason in ("handoff", "shutdown"):
            activation.reason = reason  # it goes as soon as it has come to life, and can't ask to stay

    def dismiss(self, name: str, entity_id: str) -> bool:
        """Let one entity go with reason explicit, asked for from outside; False when it does not live."""
        hosted = self._types.get(name)
        activation = None if hosted is None else hosted.live.get(entity_id)
        if activation is None:
            return False
        if activation.phase is Phase.STARTING:
            activation.reason = activation.reason or "explicit"  # it goes as soon as it has come to life
        else:
            self.let_go(activation, "explicit")
        return True

    def let_go_shards(self, shards: Callable[[str, int], bool], reason: str) -> list[Delivery]:
        """Let go every entity of these (group, shard) pairs; returns the messages that had not started, in order."""
        unstarted: list[Delivery] = []
        for hosted in self._every_type():
            group = hosted.definition.options.group
            for activation in [a for a in hosted.live.values() if shards(group, a.shard)]:
                unstarted += activation.empty()
                self.let_go(activation, reason)
        return unstarted

    def lose_shards(self, shards: Callable[[str, int], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Another owner has these shards: drop their entities at once, publish nothing, run no hook.

        Returns the messages that had started and those that had not, each in order.
        """
        started: list[Delivery] = []
        unstarted: list[Delivery] = []
        for hosted in self._every_type():
            group = hosted.definition.options.group
            for activation in [a for a in hosted.live.values() if shards(group, a.shard)]:
                for delivery in activation.running:
                    (started if delivery.started else unstarted).append(delivery)
                    delivery.cancelled = True
                    if delivery.task is not None:
                        delivery.task.cancel()
                had_come_to_life = activation.phase is not Phase.STARTING
                unstarted.extend(self._leave(activation))
                if activation.hosted.apart:
                    self.supervision.abandon(activation)
                if had_come_to_life:
                    self._count_gone(activation, "lost")
        return started, unstarted

    def _deactivate(self, activation: Activation) -> None:
        activation.phase = Phase.STOPPING
        if activation.hosted.apart:
            self.supervision.let_go(activation)
        elif activation.hosted.hooks[1]:
            self.crew.spawn(self._deactivate_hook(activation))
        else:
            self.gone(activation, activation.reason)

    async def _deactivate_hook(self, activation: Activation) -> None:
        reason = activation.reason
        current_hook.set(activation)
        try:
            await activation.entity.on_deactivate(reason)
        except BaseException as raised:
            if self.crew.stopped:
                raise
            import logging

            logging.getLogger("entities").error("on_deactivate of %s raised", activation, exc_info=raised)
            reason = "failed"
        if activation.phase is Phase.STOPPING:
            self.gone(activation, reason)

    def stays(self, activation: Activation, seconds: float) -> None:
        """It was asked to go for idleness, and wants to stay for so long from now."""
        if activation.reason != "idle":
            self._deactivate(activation)  # its shard is to leave by now
            return
        activation.phase, activation.reason = Phase.ACTIVE, ""
        activation.keep_until = max(activation.keep_until, self.now() + seconds)
        self._idle.add(activation, seconds)
        self._next(activation)

    def gone(self, activation: Activation, reason: str | None, error: BaseException | None = None) -> None:
        """It has left its place; what waits meets a new activation.

        :param reason: why, to be counted; None for one that had not come to life.
        :param error: what kept it from coming to life.
        """
        waiting = self._leave(activation, error)
        if reason is not None:
            self._count_gone(activation, reason)
        hosted = self._types[activation.hosted.definition.name]
        for number, delivery in enumerate(waiting):
            # They were received once; a new activation takes them in the order they came.
            try:
                successor = hosted.live.get(activation.entity_id) or self.activate(
                    hosted, activation.entity_id, activation.shard, activation.epoch, self.now()
                )
            except ActivationFailed as error:
                for failed in waiting[number:]:
                    failed.origin.answer(failed, None, error)
                return
            delivery.activation = successor
            renewed = hosted.messages.get(delivery.message.name)
            if renewed is not None:
                delivery.message = renewed
            refused = self._queue(delivery, successor)
            if refused is not None:
                delivery.origin.answer(delivery, None, refused)

    def _leave(self, activation: Activation, error: BaseException | None = None) -> list[Delivery]:
        activation.phase = Phase.GONE
        self.changes += 1
        for hosted in self._every_type():
            if hosted.live.get(activation.entity_id) is activation:
                del hosted.live[activation.entity_id]
        waiting = activation.empty()
        self.left(activation, error)
        return waiting

    def _count_gone(self, activation: Activation, reason: str) -> None:
        hosted = activation.hosted
        now = self.now()
        hosted.deactivated[reason] = hosted.deactivated.get(reason, 0) + 1
        hosted.lifetimes.append(now - activation.activated_at)
        self._last_gone_at = now

    async def close(self) -> None:
        """Let every entity go with reason shutdown, then stop."""
        for hosted in self._every_type():
            for activation in list(hosted.live.values()):
                for delivery in activation.empty():
                    delivery.origin.answer(delivery, None, unstarted(delivery, "the runner shuts down"))
                self.let_go(activation, "shutdown")
        for _ in range(1000):
            if not any(hosted.live for hosted in self._every_type()):
                break
            await asyncio.sleep(0)
        if self._lives_apart():
            await self.supervision.close(self._lives_apart)
        self.stop()

    def _lives_apart(self) -> bool:
        return any(hosted.apart and hosted.live for hosted in self._every_type())

    def stop(self) -> None:
        """Start nothing more, and cancel what runs; a thread that is in a handler ends with it."""
        self._idle.end()
        self.crew.stop()
        self.threads.end()

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # -- time

    def repeat(self, activation: Activation, seconds: float, method: str) -> None:
        """Send an entity its own message every `seconds` for as long as this activation lives."""
        self.check_timer(activation, seconds, method)
        reference = self.neighbours.entity(activation.hosted.definition.cls, activation.entity_id)
        pending: list[Any] = []

        def tick() -> None:
            if activation.phase is Phase.GONE:
                self._idle.ticking.discard(activation)
                return
            self._idle.ticking.add(activation)
            if activation.phase is Phase.ACTIVE and (not pending or pending[-1].done()):
                idle = not activation.running and activation.mailbox is None
                touched_at = activation.touched_at
                pending[:] = [getattr(reference, method).remote()]
                if idle:  # else it is in use, whoever uses it says until when
                    pending[0].add_done_callback(lambda _: self._idle.resume(activation, touched_at))
            self._loop.call_later(seconds, tick, context=blank)

        # Not in the context of the message that asked for it: its deadline and call chain are not the timer's.
        blank = contextvars.Context()
        if self._on_loop():
            self._loop.call_later(seconds, tick, context=blank)
        else:  # asked for by a blocking handler
            self._loop.call_soon_threadsafe(partial(self._loop.call_later, seconds, tick, context=blank))

    @staticmethod
    def check_timer(activation: Activation, seconds: float, method: str) -> None:
        """Raise ValueError for a timer that has no meaning."""
        if not seconds > 0:
            raise ValueError(f"every({seconds!r}, {method!r}): seconds above 0")
        if method not in activation.hosted.definition.messages:
            raise ValueError(f"every({seconds!r}, {method!r}): {activation} declares no such message")

    # -- what is known

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        with self._recorder.lock:
            for hosted in self._every_type():
                hosted.flush(self._recorder)

    def live(self) -> Mapping[str, int]:
        """Live entities by type."""
        counts: dict[str, int] = {}
        for hosted in list(self._types.values()):
            counts[hosted.definition.name] = len(hosted.live)
        return counts

    def idle_s(self) -> float:
        """Seconds since the last entity went, or since there could be any; 0 while one lives. From any thread."""
        if any(hosted.live for hosted in self._every_type()):
            return 0.0
        return self.now() - self._last_gone_at

    def activations(self) -> Iterator[Activation]:
        """Every live activation."""
        for hosted in self._types.values():
            yield from list(hosted.live.values())

    def _every_type(self) -> list[HostedType]:
        return [*self._types.values(), *self._retired]

    def _gauges(self) -> Iterable[tuple[Instrument, Mapping[str, str], float]]:
        for hosted in list(self._types.values()):
            name = {"entity_type": hosted.definition.name}
            yield cluster.entities, name, float(len(hosted.live))
            depth = sum(len(a.mailbox) for a in list(hosted.waiting.values()) if a.mailbox is not None)
            yield cluster.mailbox_depth, name, float(depth)


def _nobody_asks(activation: Activation, error: BaseException | None) -> None:
    """Nobody wants to know who has gone."""
