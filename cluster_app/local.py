"""The local lane: from a runner's own entities to entities on the same runner, with no transport between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cluster_app.sending import SendingLane
from cluster_app.shard import ShardId
from entities.response import EntityResponse

if TYPE_CHECKING:
    from cluster_app.client import Client
    from cluster_app.runner import Runner

__all__ = ["LocalLane", "LocalRunner"]


class LocalRunner(Protocol):
    """The runner in this very process, as its client sees it: messages to its entities touch no transport."""

    runner_id: str

    def may_leave(self) -> bool:
        """Whether messages may leave this process now."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back on the runner's loop."""
        ...

    def here(self) -> bool:
        """Whether this is the thread of the runner's loop."""
        ...

    def take(self, lane: SendingLane, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Take a message over; returns its shard if that is not served here."""
        ...

    def cancel(self, sequence: int) -> None:
        """The sender wants this message no more."""
        ...


class LocalLane:
    """Lets a client hand messages straight to the runner in its own process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread
        self._runner: Runner
        self._client: Client
        self.runner_id = ""

    def join(self, client: Client, runner: Runner) -> None:
        """Say whose lane this is; both need it to be made."""
        self._client, self._runner = client, runner
        self.runner_id = runner.runner_id

    def may_leave(self) -> bool:
        """Whether messages may leave this process: only while its runner's lease runs."""
        return self._runner.may_leave()

    def here(self) -> bool:
        """Whether this is the thread of the runner's loop."""
        return threading.get_ident() == self._thread

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back on the runner's loop."""
        self._loop.call_soon_threadsafe(callback)

    def take(self, lane: SendingLane, message: EntityResponse[Any], sequence: int) -> ShardId | None:
        """Hand the message over; returns its shard if that is not served here."""
        return self._runner.take_locally(lane, message, sequence, self._answered, self._client.take_back)

    def cancel(self, sequence: int) -> None:
        """The sender wants it no more."""
        self._runner.cancel_locally(sequence)

    def _answered(self, lane: SendingLane, sequence: int, value: Any, error: BaseException | None) -> None:
        # Later, when the sender's lock is free: a refused message is answered while it is being handed over.
        if error is not None:
            self._loop.call_soon(self._client.settle_locally, lane, sequence, value, error)
        else:
            self._client.settle_locally(lane, sequence, value, None)
