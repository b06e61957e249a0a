"""Messages round many counters: what every measurement of pipelined messages sends.

It decides how the messages go round the entities, what each must return, and holds the cluster's own count against
what was sent: a speed with metrics is one at which every message was counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cluster_app.bench.pipeline import Pace, WrongValue, pipelined
from entities.catalog import Counter

__all__ = ["Counters", "check_counted", "counter_ids"]


def counter_ids(numbers: Iterable[int]) -> list[str]:
    """The ids of the counters of these numbers."""
    return [f"counter-{number}" for number in numbers]


class Counters:
    """Counters that nobody else sends to, each addressed in turn.

    :param before: messages that each of them has had already.
    """

    def __init__(self, cluster: Any, ids: Iterable[str], before: int = 0) -> None:
        self._sends: list[Callable[[int], Any]] = [
            cluster.entity(Counter, entity_id).increment.remote for entity_id in ids
        ]
        self._sent = before * len(self._sends)

    def __len__(self) -> int:
        return len(self._sends)

    def pace(self, messages: int, in_flight: int, cpu_clock: Callable[[], float] = time.process_time) -> Pace:
        """Send so many more, from this one sender, and check each value. Raises WrongValue."""
        sends, count, first = self._sends, len(self._sends), self._sent
        self._sent += messages

        def send(number: int) -> Any:
            return sends[(first + number) % count](1)

        return pipelined(
            send,
            values_of,
            lambda number: (first + number) // count + 1,
            messages=messages,
            in_flight=in_flight,
            cpu_clock=cpu_clock,
        )


def values_of(replies: list[Any]) -> Sequence[Any]:
    """The values of some replies, once they are there."""
    return [reply.result() for reply in replies]


def check_counted(cluster: Any, messages: int) -> None:
    """Raise WrongValue unless sender and runner have counted exactly so many messages to counters."""
    counted = cluster.metrics()
    for name in ("cluster_messages_sent_total", "cluster_messages_received_total"):
        value = counted.value(name, entity_type="Counter")
        if value != messages:
            raise WrongValue(f"{name} is {value:.0f} after {messages} messages")
