"""How a frame of messages comes into the care of a host.

Decides which messages need no second look: those by position only, to entities that live and either are idle or have
others waiting already. Nearly all are, so they are taken in one pass, in place; every other one is handed on, and none
overtakes another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from entities.activation import HostedMessage, Phase
from entities.crew import Crew
from entities.delivery import Answerable, Delivery

__all__ = ["take_in"]

_ACTIVE = Phase.ACTIVE


def take_in(
    crew: Crew,
    origin: Answerable,
    first: int,
    messages: Sequence[HostedMessage | None],
    kinds: Sequence[int],
    ids: Sequence[str],
    arguments: Sequence[tuple[Any, ...] | None],
    deadline: float,
    now: float,
    unanswered: dict[int, Delivery],
    odd: Callable[[int], bool],
    *,
    careful: bool,
    behind: list[Delivery],
) -> None:
    """Accept the messages of a frame's columns, oldest first. They run once the crew is woken.

    :param first: the sequence number of the first; the others follow without gaps.
    :param messages: for each kind its message, or None where there is none.
    :param unanswered: takes the accepted ones, by sequence number.
    :param odd: takes over the message at a position; tells whether all after it must be handed to it as well.
    :param careful: whether even the first must be.
    :param behind: takes those that wait in a mailbox.
    """
    ready = crew.ready.append
    left_out: dict[int, int] = {}
    position = -1
    for kind, entity_id, args in zip(kinds, ids, arguments, strict=True):
        position += 1
        message = messages[kind]
        if message is not None and not careful and args is not None:
            activation = message.live.get(entity_id)
            if (
                activation is not None
                and activation.phase is _ACTIVE
                and activation.hosted is message.hosted
                and message.minimum <= len(args) <= message.maximum
            ):
                sequence = first + position
                mailbox = activation.mailbox
                if mailbox is None:
                    if not activation.running:
                        delivery = Delivery(
                            origin, sequence, message, entity_id, args, deadline, now, activation
                        )
                        activation.running = (delivery,)
                        unanswered[sequence] = delivery
                        ready(delivery)
                        continue
                else:
                    delivery = Delivery(origin, sequence, message, entity_id, args, deadline, now, activation)
                    if mailbox.offer(delivery):
                        unanswered[sequence] = delivery
                        behind.append(delivery)
                        continue
        careful = odd(position)
        left_out[kind] = left_out.get(kind, 0) + 1
    for kind, message in enumerate(messages):
        if message is not None:
            count = kinds.count(kind) - left_out.get(kind, 0)
            if count:
                received = message.hosted.received
                received["send"] = received.get("send", 0) + count
