"""The other end: one entity in a process of its own.

Decides how the messages that its owner hands on are run: by a host of this one entity, with the same crew, contexts,
timers and hooks as in a runner. It keeps no idle time and no bounds, for its owner does, and counts nothing for its
owner counts.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster_app.annex_calls import Call, Lent, News, Reply, Tenancy
from cluster_app.arriving import unpacked_at
from cluster_app.envelope import Atoms, Codec
from cluster_app.lent_lease import LentLease
from cluster_app.resolved import needs_objects, resolved
from entities.activation import Activation, Phase
from entities.address import EntityAddress
from entities.annex import Left
from entities.answers import activation_failed, unpicklable
from entities.declaration import EntityDefinition
from entities.delivery import Delivery, Particulars, current_hook
from entities.demand import NO_DEMAND
from entities.errors import ActivationFailed, Cancelled, MalformedMessage, describe
from entities.host import EntityHost, Neighbours
from entities.timers import check_timer
from observe.recorder import Recorder

if TYPE_CHECKING:
    from observe.traces import Traces

__all__ = ["AnnexedEntity"]

_SUSPENDED_HOLD_S = 0.05  # while nothing is lent, its owner is asked again soon


class AnnexedEntity:
    """The entity and its host. Everything here happens on one event loop.

    :param lease: what its owner lends of its own.
    :param now: the clock, in seconds; the loop's timers must follow it.
    :param hold_s: how long a question for news is held when there are none.
    :param traces: where the spans of its messages go; the process's own if None.
    """

    def __init__(
        self,
        tenancy: Tenancy,
        definition: EntityDefinition,
        lease: LentLease,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        codec: Codec,
        neighbours: Neighbours,
        hold_s: float,
        traces: Traces | None = None,
    ) -> None:
        self.lease = lease
        self._tenancy = tenancy
        self._loop = loop
        self._now = now
        self._codec = codec
        self._neighbours = neighbours
        self._hold_s = hold_s
        self._traces = traces
        options = dataclasses.replace(
            definition.options,
            hosting="shard",
            demand=NO_DEMAND,
            max_idle_time=None,
            mailbox_capacity=1_000_000_000,
        )
        self._definition = dataclasses.replace(definition, options=options)
        self.host = _Host(loop, now, self.lease, Recorder(enabled=False), neighbours)
        self.host.live.left = self._left
        self.host.ask_out, self.host.ask_for_timer = self._ask_out, self._ask_for_timer
        self._activation: Activation
        self._unwanted: set[int] = set()  # cancelled before it was their turn
        self._running: dict[int, Delivery] = {}
        self._next_call = 0
        self._early: dict[int, asyncio.Future[None]] = {}
        self._wants_out = False
        self._timers: list[tuple[float, str]] = []
        self._over = False
        self._went: asyncio.Future[str] = loop.create_future()
        self._listener: asyncio.Future[None] | None = None

    def _ask_out(self) -> None:
        self._wants_out = True
        self._tell()

    def _ask_for_timer(self, seconds: float, method: str) -> None:
        self._timers.append((seconds, method))
        self._tell()

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self._answer_news)  # a blocking handler asks from its thread

    def _answer_news(self) -> None:
        if self._listener is not None and not self._listener.done():
            self._listener.set_result(None)

    async def activate(self, lent: Lent, trace: str | None = None) -> Reply:
        """Bring the entity to life; the error is an ActivationFailed when it does not come.

        :param trace: the trace context of the activation, if it is part of a trace.
        """
        self.lease.lend(lent)
        while not self.lease.runs:
            await (
                self.lease.opened()
            )  # its owner was stopped meanwhile: another one may have the entity by now
        tenancy = self._tenancy
        birth = None
        if trace is not None:
            from cluster_app.following import follow_birth  # few messages are traced

            kind, entity_id = tenancy.entity_type, tenancy.entity_id
            birth = follow_birth(trace, kind, entity_id, tenancy.process, self._traces, self._now)
        await self.host.crew.may_run()
        with birth.being_current() if birth is not None else nullcontext():
            failed = await self._bring_to_life()
        if birth is not None:
            birth.ended(failed)
        error = self._codec.pack_error(failed) if failed is not None else None
        return Reply(self.lease.mark(), error=error)

    async def _bring_to_life(self) -> ActivationFailed | None:
        self.host.register(self._definition)
        hosted = self.host.live.hosted(self._definition.name)
        assert hosted is not None
        overrides_hook, hosted.hooks = hosted.hooks[0], (False, hosted.hooks[1])
        tenancy = self._tenancy
        try:
            self._activation = self.host.activator.activate(
                hosted, tenancy.entity_id, tenancy.shard, tenancy.epoch, self._now()
            )
            if overrides_hook:
                current_hook.set(self._activation)
                try:
                    await self._activation.entity.on_activate()
                except BaseException as raised:
                    raise activation_failed(hosted, tenancy.entity_id, raised) from raised
        except ActivationFailed as failed:
            return failed
        return None

    # -- messages

    async def call(self, call: Call) -> Reply:
        """Run a message that the owner has started."""
        self.lease.lend(call.lent)
        while call.number > self._next_call:
            await self._early.setdefault(call.number, self._loop.create_future())
        address = EntityAddress(self._tenancy.entity_type, self._tenancy.entity_id)
        if call.number < self._next_call:  # cancelled before it was its turn
            unwanted = Cancelled(address=address, method=call.method, may_have_run=False)
            return Reply(self.lease.mark(), error=self._codec.pack_error(unwanted))
        self._next_call += 1
        self._turn()
        answer: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        hosted = self._activation.hosted
        now = self._now()
        delivery = Delivery(
            _Answer(answer),
            call.number,
            hosted.messages[call.method],
            address.id,
            (),
            now + call.timeout_s,
            now,
        )
        delivery.particulars = particulars = Particulars(call.chain, call.message_id)
        if call.trace is not None:
            from cluster_app.following import follow_handed_on  # few messages are traced

            particulars.trail = follow_handed_on(
                delivery, call.trace, self._tenancy.process, self._traces, self._now
            )
        try:
            delivery.args, particulars.kwargs = unpacked_at(self._neighbours, self._codec, call.arguments)
        except BaseException as raised:
            error: BaseException = MalformedMessage(
                f"its arguments cannot be unpickled in the entity's process: {describe(raised)}",
                address=address,
                method=call.method,
            )
            if particulars.trail is not None:
                particulars.trail.refused(error)
            return Reply(self.lease.mark(), error=self._codec.pack_error(error))
        if needs_objects(self._codec.attach, delivery.args, particulars.kwargs):
            particulars.prepare = partial(resolved, self._codec.attach)
        self._running[call.number] = delivery
        try:
            refused = self.host.turns.accept(delivery, self._activation)
            value, failure = (None, refused) if refused is not None else await answer
            if refused is not None and particulars.trail is not None:
                particulars.trail.refused(refused)
        finally:
            del self._running[call.number]
        return self._reply(delivery, value, failure)

    def _reply(self, delivery: Delivery, value: Any, failure: BaseException | None) -> Reply:
        if failure is None and type(value) not in Atoms:
            try:
                value = self._codec.pack(value)
            except BaseException as raised:
                failure = unpicklable(delivery, value, raised)
        if failure is not None:
            return Reply(self.lease.mark(), None, self._codec.pack_error(failure), self._wants_out)
        return Reply(self.lease.mark(), value, None, self._wants_out)

    def cancel(self, number: int) -> None:
        """That message is not wanted any more."""
        delivery = self._running.get(number)
        if delivery is not None:
            self.host.turns.cancel(delivery)
        elif (
            number >= self._next_call
        ):  # it comes later, or never: calls overtake each other, and can fail to leave
            self._unwanted.add(number)
            self._turn()

    def _turn(self) -> None:
        """Let the next message begin that is wanted, if it is here."""
        while self._next_call in self._unwanted:
            self._unwanted.discard(self._next_call)
            self._wake(self._next_call)
            self._next_call += 1
        self._wake(self._next_call)

    def _wake(self, number: int) -> None:
        waiting = self._early.pop(number, None)
        if waiting is not None:
            waiting.set_result(None)

    # -- its owner

    async def news(self, lent: Lent) -> News:
        """Answer when there is something to say, or when it is time to be lent more."""
        self.lease.lend(lent)
        if not self._wants_out and not self._over and not self._timers:
            self._answer_news()  # its owner asks anew, so the older question was lost
            self._listener = told = self._loop.create_future()
            hold_s = self._hold_s if self.lease.runs else _SUSPENDED_HOLD_S
            timer = self._loop.call_later(hold_s, _done, told)
            try:
                await told
            finally:
                timer.cancel()
        wants_out, self._wants_out = self._wants_out, False
        timers, self._timers = tuple(self._timers), []
        return News(self.lease.mark(), wants_out, self._over, timers)

    def states(self) -> dict[str, Any] | None:
        """The entity's public attributes, as they travel; None once it has been let go."""
        from cluster_app.entity_states import state_of  # few are asked for them

        lives = self._activation.phase not in (Phase.STARTING, Phase.GONE)
        return state_of(self._activation.entity) if lives else None

    async def leave(self, reason: str) -> Left:
        """Let the entity go; or, asked to for idleness only, say how long it wants to stay."""
        stay_s = self._activation.keep_until - self._now()
        if reason == "idle" and stay_s > 0:
            return Left(stay_s, "")
        self.host.deactivator.let_go(self._activation, reason)
        why = await self._went
        self._over = True
        self._tell()
        return Left(0.0, why)

    def _left(self, activation: Activation, error: BaseException | None) -> None:
        if not self._went.done():
            self._went.set_result(activation.reason)

    def flush(self) -> None:
        """Drop what was measured: its owner measures too."""
        self.host.live.flush()

    def stop(self) -> None:
        """End at once whatever runs."""
        self.host.stop()
        self._tell()


class _Host(EntityHost):
    """A host of one entity, whose owner lets it go and keeps its timers: the entity itself can only ask for it."""

    ask_out: Callable[[], None]
    ask_for_timer: Callable[[float, str], None]

    def let_go(self, activation: Activation, reason: str) -> None:
        self.ask_out()

    def repeat(self, activation: Activation, seconds: float, method: str) -> None:
        check_timer(activation, seconds, method)
        self.ask_for_timer(seconds, method)


class _Answer:
    """Where a handed-on message's answer goes."""

    sender = ""

    def __init__(self, answer: asyncio.Future[tuple[Any, BaseException | None]]) -> None:
        self._answer = answer

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        if not self._answer.done():
            self._answer.set_result((value, error))


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
