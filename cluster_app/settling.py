"""From what a runner answers to settled replies, each counted once.

Decides nothing about lanes: it takes answer frames in the order in which the lane gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster_app.arriving import unpacked_at
from cluster_app.envelope import AnswerFrame, Codec, Packed
from cluster_app.sending import SendingLane
from entities.errors import ClusterError, HandlerError, MalformedMessage, Unknown, describe
from entities.response import EntityResponse, Settlement

__all__ = ["Settling", "about", "end"]

Refused = Callable[[SendingLane, EntityResponse[Any], int, Settlement, bool], None]


def about(message: EntityResponse[Any]) -> dict[str, Any]:
    """What an error says of its message."""
    return {"address": message.route.address, "method": message.route.name}


def end(
    settlement: Settlement, message: EntityResponse[Any], value: Any, error: BaseException | None, now: float
) -> None:
    """Give a message its outcome and count it, unless it has one already."""
    if message._settled:
        return
    kind = message.route.kind
    if error is None:
        kind.took_ok.append(now - message.sent_at)
    else:
        if (
            message.resent_as is not None
            and message.resent_as.may_have_run
            and isinstance(error, ClusterError)
        ):
            error.may_have_run = True  # not now, but under a runner that it outlived
        kind.failed(error, now - message.sent_at)
    settlement.end(message, value, error)


class Settling:
    """Settles the replies of one sender.

    :param here: the connection that references in values lead back by.
    :param refused: hears of (lane, message, sequence number, settlement, whether it had been taken) that was sent back.
    """

    def __init__(self, codec: Codec, here: Any, refused: Refused) -> None:
        self._codec = codec
        self._here = here
        self._refused = refused

    def frame(
        self,
        lane: SendingLane,
        frame: AnswerFrame,
        attachments: tuple[Any, ...],
        settlement: Settlement,
        now: float,
    ) -> None:
        """Settle what one answer frame tells."""
        pop = lane.outbound.in_flight.pop
        finish = settlement.end
        sequences = frame.sequences
        if sequences is None:
            sequences = range(frame.first, frame.first + len(frame.values))  # type: ignore[assignment]  # iterated only
        if frame.packed or frame.errors or frame.refused:
            self._mixed(lane, frame, sequences, attachments, settlement, now)
            return
        for sequence, value in zip(sequences, frame.values, strict=True):  # type: ignore[arg-type]  # never None here
            message = pop(sequence, None)
            if message is not None:
                message.route.kind.took_ok.append(now - message.sent_at)
                finish(message, value, None)

    def _mixed(
        self,
        lane: SendingLane,
        frame: AnswerFrame,
        sequences: Any,
        attachments: tuple[Any, ...],
        settlement: Settlement,
        now: float,
    ) -> None:
        used = 0
        for position, (sequence, value) in enumerate(zip(sequences, frame.values, strict=True)):
            belong = frame.references.get(position, 0)
            mine, used = attachments[used : used + belong], used + belong
            message = lane.outbound.in_flight.pop(sequence, None)
            if message is None:
                continue
            error: BaseException | None = None
            if position in frame.refused:
                self._refused(lane, message, sequence, settlement, frame.refused[position])
                continue
            if position in frame.errors:
                error = self._error(frame.errors[position], message)
            elif position in frame.packed:
                try:
                    value = unpacked_at(self._here, self._codec, Packed(frame.packed[position], mine))
                except BaseException as raised:  # its neighbours in the frame must still get theirs
                    error = MalformedMessage(
                        f"the reply cannot be unpickled here: {describe(raised)}",
                        may_have_run=True,
                        **about(message),
                    )
                    error.__cause__ = raised
            end(settlement, message, None if error is not None else value, error, now)

    def _error(self, data: bytes, message: EntityResponse[Any]) -> BaseException:
        try:
            error = unpacked_at(self._here, self._codec, Packed(data))
        except BaseException as raised:
            return HandlerError(f"its error cannot be unpickled here: {describe(raised)}", **about(message))
        return error if isinstance(error, ClusterError) else Unknown(repr(error), **about(message))
