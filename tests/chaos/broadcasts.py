"""Whether a record keeps what is promised of broadcasts: messages to all that live, in the record to the id ``*``.

Decides what of the rules is another thing for them. The record names the targets only by what they do, and the reply
counts them: a shard whose runner could not tell is one that failed, whoever lived there. So with nothing failed the
reply is exact, and else it never tells of more deliveries than there were.

| rule | holds when |
|---|---|
| double run | what is not idempotent began once at most in each address |
| true reply | as many addresses returned it in time as it says were delivered; with none failed, no other began it |
| counts | what was counted of broadcasts, by targets, is what the replies say |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster_app import BroadcastResult
from tests.chaos.history import Event, History
from tests.chaos.lives import Lives
from tests.chaos.violation import Violation

__all__ = ["EVERYBODY", "Broadcasts", "to_all", "told_by"]

EVERYBODY = "*"  # in the place of an entity's id


def to_all(sent: Event) -> bool:
    """Whether what was sent is a broadcast."""
    return bool(sent["id"] == EVERYBODY)


def told_by(value: object) -> dict[str, Any]:
    """What a record keeps of a reply that is no error."""
    if isinstance(value, BroadcastResult):
        return {"delivered": value.delivered, "failed": value.failed, "errors": dict(value.errors)}
    return {"value": value}


class Broadcasts:
    """The broadcasts of a record.

    :param began, done, fates: the moments of each, by token.
    :param publishable: whether what a handler returned at a moment could be published before another.
    """

    def __init__(
        self,
        history: History,
        lives: Lives,
        began: Mapping[str, list[int]],
        done: Mapping[str, list[int]],
        fates: Mapping[str, list[int]],
        publishable: Callable[[int, int], bool],
    ) -> None:
        self._history = history
        self._events = history.events
        self._lives = lives
        self._began = began
        self._done = done
        self._fates = fates
        self._publishable = publishable
        sent = (history.events[moment] for moment in history.of("sent"))
        self._sent = {event["token"]: event for event in sent if to_all(event)}

    def wrong(self) -> Iterator[Violation]:
        """Every violation."""
        for token, sent in self._sent.items():
            if not sent["idempotent"]:
                for moments in self._by_address(self._began.get(token, [])).values():
                    if len(moments) > 1:
                        what = "a broadcast began more than once in an address"
                        yield Violation("double run", what, self._shown(sent, moments))
            fate = self._fate(token)
            if fate is not None and self._events[fate]["ok"]:
                yield from self._untrue(sent, fate)
        for entity_type in sorted({sent["type"] for sent in self._sent.values()}):
            yield from self._wrong_counts(entity_type)

    def _fate(self, token: str) -> int | None:
        return self._fates[token][0] if token in self._fates else None

    def _by_address(self, moments: list[int]) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for moment in moments:
            life = self._lives.by_name.get(self._events[moment]["activation"])
            if life is not None:
                found[life.address].append(moment)
        return dict(found)

    def _shown(self, sent: Event, moments: list[int]) -> list[Event]:
        return [sent, *(self._events[moment] for moment in sorted(moments))]

    def _untrue(self, sent: Event, fate: int) -> Iterator[Violation]:
        said, token = self._events[fate], sent["token"]
        began, done = self._began.get(token, []), self._done.get(token, [])
        if said["failed"] != sum(said["errors"].values()):
            yield Violation("true reply", "its failures are not the sum of its errors", [sent, said])
        returned = [moment for moment in done if moment < fate and self._publishable(moment, fate)]
        if len(self._by_address(returned)) < said["delivered"]:
            what = "a broadcast is said to be delivered to more than returned it in time"
            yield Violation("true reply", what, [*self._shown(sent, [*began, *done]), said])
        targets = self._by_address(began)
        if not said["failed"] and not sent["idempotent"] and len(targets) != said["delivered"]:
            what = "a broadcast failed nowhere, and others have begun it than those it was delivered to"
            yield Violation("true reply", what, [*self._shown(sent, [*began, *done]), said])

    # -- counts

    def _survived(self, event: Event) -> bool:
        return event["pid"] not in self._lives.killed

    def _on_survivor(self, moment: int) -> bool:
        return self._lives.on_survivor(self._events[moment])

    def _wrong_counts(self, entity_type: str) -> Iterator[Violation]:
        """At the sender: exact, unless one was killed; at the runner: what began on survivors is the least."""
        mine = {token: sent for token, sent in self._sent.items() if sent["type"] == entity_type}
        sure = {token for token, sent in mine.items() if self._survived(sent)}
        exact = len(sure) == len(mine)
        ok, errors = 0, Counter[str]()
        for token in sure:
            fate = self._fate(token)
            if fate is None:
                continue  # another rule's
            said = self._events[fate]
            ok += said["delivered"] if said["ok"] else 0
            errors.update(said["errors"] if said["ok"] else {said["reason"]: 1})
        points = [
            point
            for point in map(self._events.__getitem__, self._history.of("counts"))
            if point["labels"].get("entity_type") == entity_type
            and point["labels"].get("operation") == "broadcast"
        ]

        def counted(name: str, least: int, most: float, **labels: str) -> Iterator[Violation]:
            shown = [p for p in points if p["name"] == name and labels.items() <= p["labels"].items()]
            value = sum(point["value"] for point in shown)
            if not least <= value <= most:
                label = "".join(f", {key}={text}" for key, text in labels.items())
                said = f"{least:g}" if least == most else f"{least:g} to {most:g}"
                what = f"{name}{{entity_type={entity_type}, operation=broadcast{label}}} is {value:g}"
                yield Violation("counts", f"{what}, the record says {said}", shown)

        def exactly(name: str, number: int, **labels: str) -> Iterator[Violation]:
            yield from counted(name, number, number if exact else float("inf"), **labels)

        yield from exactly("cluster_messages_sent_total", ok + errors.total())
        yield from exactly("cluster_message_latency_seconds", ok, outcome="ok")
        yield from exactly("cluster_message_latency_seconds", errors.total(), outcome="error")
        reasons = {p["labels"]["type"] for p in points if p["name"] == "cluster_errors_total"}
        for reason in sorted(reasons | errors.keys()):
            yield from exactly("cluster_errors_total", errors[reason], type=reason)
        # What has arrived is not sent elsewhere, so each beginning has been counted where it was.
        least = sum(
            len(self._by_address([m for m in self._began.get(token, ()) if self._on_survivor(m)]))
            for token in mine
        )
        yield from counted("cluster_messages_received_total", least, float("inf"))
