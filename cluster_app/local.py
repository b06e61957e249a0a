"""The local lane: from a runner's own entities to entities on the same runner, with no transport between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cluster_app.envelope import Codec, copied
from cluster_app.sending import SendingLane
from cluster_app.shard import ShardId
from entities.answers import unpicklable
from entities.delivery import Delivery
from entities.response import EntityResponse

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.local_sending import LocalSending
    from cluster_app.runner import Runner

__all__ = ["LocalLane", "LocalRunner"]


class LocalRunner(Protocol):
    """The runner in this very process, as its client sees it: messages to its entities touch no transport."""

    runner_id: str

    def may_leave(self) -> bool:
        """Whether messages may leave this process now."""
        ...

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back on the runner's loop."""
        ...

    def here(self) -> bool:
        """Whether this is the thread of the runner's loop."""
        ...

    def take(self, lane: SendingLane, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Take a message over; returns its shard if that is not served here."""
        ...

    def owes(self, shard: ShardId, cause: Delivery) -> bool:
        """Whether a shard that is being handed back lets in what this handler sends: it waits for the handler."""
        ...

    def cancel(self, sequence: int) -> None:
        """The sender wants this message no more."""
        ...


class LocalLane:
    """Lets a client hand messages straight to the runner in its own process; to the runner it is where they come from.

    :ivar unanswered: the messages that the runner has accepted, by sequence number.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int, codec: Codec) -> None:
        self.unanswered: dict[int, Delivery] = {}
        self.runner_id = ""
        self._loop = loop
        self._thread = thread
        self._codec = codec
        self._runner: Runner
        self._sending: LocalSending
        self._lane: SendingLane

    def join(self, client: Client, runner: Runner) -> None:
        """Say whose lane this is; both need it to be made."""
        assert client.locally is not None  # it was made with this lane
        self._sending, self._runner = client.locally, runner
        self.runner_id = runner.runner_id

    # -- as the client sees it: a `LocalRunner`

    def may_leave(self) -> bool:
        """Whether messages may leave this process: only while its runner's lease runs."""
        return self._runner.may_leave()

    def here(self) -> bool:
        """Whether this is the thread of the runner's loop."""
        return threading.get_ident() == self._thread

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back on the runner's loop."""
        self._loop.call_soon_threadsafe(callback)

    def take(self, lane: SendingLane, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Hand the message over; returns its shard if that is not served here."""
        self._lane = lane
        refused: ShardId | None = self._runner.admission.take_locally(self, message, sequence)
        return refused

    def owes(self, shard: ShardId, cause: Delivery) -> bool:
        """Whether a shard that is being handed back lets in what this handler sends: it waits for the handler."""
        admission = self._runner.admission
        return shard in admission.draining and admission.causes(shard, cause.chain_onwards())

    def cancel(self, sequence: int) -> None:
        """The sender wants it no more."""
        delivery = self.unanswered.get(sequence)
        if delivery is not None:
            self._runner.cancel(delivery)

    # -- as the runner sees it: an `Origin`

    @property
    def sender(self) -> str:
        """Who sends, as part of message ids."""
        return f"{self._lane.outbound.sender}/{self._lane.outbound.number}"

    def admits(self, shard: ShardId, stream: int) -> bool:
        """Everything: what is sent from here is handed over one by one, so nothing overtakes what was refused."""
        return True

    def fail(self, sequence: int, error: BaseException) -> None:
        """The message ended before it was accepted."""
        # Later, when the sender's lock is free: it is just being handed over.
        self._loop.call_soon(self._sending.settle, self._lane, sequence, None, error)

    def answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        """The message has ended; its value is copied, as on the wire."""
        if self.unanswered.pop(delivery.sequence, None) is None:
            return
        if error is None:
            try:
                value = copied(value, self._codec)
            except BaseException as raised:
                error = unpicklable(delivery, value, raised)
        if error is not None:
            self.fail(delivery.sequence, error)
        else:
            self._sending.settle(self._lane, delivery.sequence, value, None)

    def send_back(self, delivery: Delivery, shard: ShardId) -> None:
        """A message that was taken and has not started goes back: its shard leaves this runner."""
        if self.unanswered.pop(delivery.sequence, None) is not None:
            self._sending.take_back(self._lane, delivery.sequence)
