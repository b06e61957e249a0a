"""One round trip between a sender and a runner, and the port that carries it.

Decides the form of the question and of the answer. Transports (memory, Ray) implement `Transport`; a request or an
answer that is lost, repeated or late is the lanes' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["Answer", "Connection", "Parcel", "Request", "RunnerGone", "RunnerUnreachable", "Transport"]


class Parcel(NamedTuple):
    """A frame's bytes and the objects that the transport must carry as such beside them."""

    number: int
    data: bytes
    attachments: tuple[Any, ...] = ()


class Request(NamedTuple):
    """A sender asks a runner.

    :ivar sender: the sender's incarnation.
    :ivar lane: the lane's number at that sender.
    :ivar parcel: a frame of messages, or None to only ask for answers.
    :ivar acknowledged: how many answer frames have arrived, without a gap.
    :ivar resume: an earlier exchange failed, so its answers must be told again.
    :ivar wait_s: how long the runner may hold the answer until there is something to tell.
    :ivar cancel: messages that the sender wants no more.
    :ivar close: the sender is done with this lane.
    """

    sender: str
    lane: int
    parcel: Parcel | None
    acknowledged: int
    resume: bool = False
    wait_s: float = 0.0
    cancel: tuple[int, ...] = ()
    close: bool = False


class Answer(NamedTuple):
    """A runner answers.

    :ivar received: how many message frames have arrived, without a gap; -1 if the runner does not know the lane
        (any more), so that nothing of it will be answered.
    :ivar published: how many answer frames there have been: once all of these have come, what became of the frames
        received is known as far as it was when this was said.
    :ivar parcels: answer frames that this exchange brings.
    :ivar leaving: the runner serves nothing any more and ends when its senders have closed their lanes.
    """

    received: int
    published: int
    parcels: tuple[Parcel, ...] = ()
    leaving: bool = False


class RunnerGone(Exception):
    """The runner incarnation has ended or never was: nothing more will come of it."""


class RunnerUnreachable(Exception):
    """The exchange failed and the runner may live: ask the same incarnation again."""


Told = Callable[[Answer | BaseException], None]


class Connection(Protocol):
    """The way to one runner incarnation."""

    def exchange(self, request: Request, told: Told) -> None:
        """Send `request`; `told` is called exactly once, on any thread, with the answer, RunnerGone or
        RunnerUnreachable. Never blocks, never raises."""
        ...


class Transport(Protocol):
    """Opens ways to runners.

    :ivar eager: an exchange costs so little that no message need wait for company.
    """

    eager: bool

    def connect(self, runner_id: str) -> Connection:
        """The way to that runner; never blocks."""
        ...
