"""Faults that are planted into the engine, one at a time, to see that schedules find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster_app.broadcast_targets import ShardBroadcast
from cluster_app.coordinator import Coordinator
from cluster_app.envelope import MessageFrame
from cluster_app.inbound_lane import InboundLane
from cluster_app.routing import Routing
from cluster_app.runner import Runner
from cluster_app.sending import SendingLane

__all__ = ["no_cancellation", "no_dedup", "no_failed_target", "no_fence", "no_roster_wait"]


@contextmanager
def _instead(owner: type, name: str, other: Any) -> Iterator[None]:
    own = owner.__dict__[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, own)


@contextmanager
def no_fence() -> Iterator[None]:
    """A runner's gate never closes again: it serves, and publishes, when its lease has ended."""
    extend = Runner.extend

    def extended(self: Runner) -> None:
        extend(self)
        if not self.paused and self.until > float("-inf"):
            self.until = float("inf")

    with _instead(Runner, "extend", extended):
        yield


@contextmanager
def no_dedup() -> Iterator[None]:
    """A receiver takes a frame as often as it comes: it keeps no watermark."""

    def offer(
        self: InboundLane, frame: MessageFrame, attachments: tuple[Any, ...]
    ) -> list[tuple[MessageFrame, tuple[Any, ...]]]:
        self._next_frame = max(self._next_frame, frame.number + 1)
        return [(frame, attachments)]

    with _instead(InboundLane, "offer", offer):
        yield


@contextmanager
def no_roster_wait() -> Iterator[None]:
    """A new term waits for nobody of its roster: it grants at once what nobody has reported yet."""
    begin = Coordinator.__init__

    def begun(self: Coordinator, config: Any, leadership: Any, roster: Any, now: float) -> None:
        begin(self, config, leadership, roster, now)
        self._awaited.clear()

    with _instead(Coordinator, "__init__", begun):
        yield


@contextmanager
def no_failed_target() -> Iterator[None]:
    """A runner tells of each target of a broadcast that it was delivered, whatever became of it."""
    note = ShardBroadcast.note

    def noted(self: ShardBroadcast, error: BaseException | None) -> None:
        note(self, None)

    with _instead(ShardBroadcast, "note", noted):
        yield


@contextmanager
def no_cancellation() -> Iterator[None]:
    """A sender that loses a runner sends again what it had cancelled there."""
    lose = Routing.lose

    def lost(self: Routing, lane: SendingLane, *args: Any, **more: Any) -> None:
        lane.cancelled.clear()
        lose(self, lane, *args, **more)

    with _instead(Routing, "lose", lost):
        yield
