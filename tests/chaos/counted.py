"""Whether the cluster's metrics are what a record says.

Decides which counts are exact and which are bounded. A process that is killed loses what it had counted and not yet
reported, a second's worth at most, and may have reported any part of the rest. So what only surviving processes did is
a lower bound, and what all did an upper one; nobody killed, the two are one and the count is exact.

| metric | counted by | at least | at most |
|---|---|---|---|
| messages sent | sender | sent by survivors | sent |
| latency, by outcome; errors, by reason | sender | fates at survivors | fates, and what killed senders left open |
| errors | sender | latency with outcome error | the same: one process counts both in one pass |
| sent | sender | latency: nothing is in flight at the end | the same, and what killed senders sent |
| received | runner | messages that began on survivors, as below | sent and redelivered, no sender killed |
| activations | runner | activations on survivors that handled anything | activations |
| deactivations, by reason | runner | those on survivors | those |

Received and activations are bounds also without a kill: what was accepted may never have begun (its deadline, a
cancellation, a shard that left), and an activation that a lost shard cuts short isn't one. What a runner had taken and
sent back is counted there, and nowhere else: so of what began on survivors only that was surely counted there which was
sent, and began, while no runner lived that was killed. Deactivations for reason
`lost` and `failed` run no hook that could write them down: they have no bounds. Broadcasts are `broadcasts`' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.broadcasts import to_all
from tests.chaos.history import Event, History
from tests.chaos.lives import Lives
from tests.chaos.violation import Violation

__all__ = ["wrong_counts"]

_UNWRITTEN = ("lost", "failed")


def wrong_counts(history: History, lives: Lives) -> Iterator[Violation]:
    """The metrics that are not what the record says, in the rule `counts`."""
    if not history.of("counts"):
        yield Violation("counts", "the record has none", [])
        return
    types = {history.events[m]["type"] for kind in ("sent", "activated") for m in history.of(kind)}
    for entity_type in sorted(types):
        yield from _OfType(history, lives, entity_type).wrong()


class _OfType:
    """What a record and the metrics say of one entity type."""

    def __init__(self, history: History, lives: Lives, entity_type: str) -> None:
        self._events = history.events
        self._type = entity_type
        self._lives = lives
        self._points = [
            event
            for event in map(self._events.__getitem__, history.of("counts"))
            if event["labels"].get("entity_type") == entity_type
            and event["labels"].get("operation", "send") == "send"
        ]
        self._history = history
        sent = [event for event in self._all("sent") if event["type"] == entity_type and not to_all(event)]
        self._tokens = {event["token"]: event for event in sent}
        fates = [event for event in self._all("fate") if event["token"] in self._tokens]
        self._sent = Counter(self._survived(event) for event in sent)
        settled = {event["token"] for event in fates}
        # What a killed sender had settled and not written down, or not settled, could have been counted as anything.
        self._open = sum(event["token"] not in settled and not self._survived(event) for event in sent)
        self._fates = [
            (
                "ok" if event["ok"] else "error",
                event.get("reason", ""),
                self._survived(self._tokens[event["token"]]),
            )
            for event in fates
        ]

    def _all(self, kind: str) -> list[Event]:
        return [self._events[moment] for moment in self._history.of(kind)]

    def _survived(self, event: Event) -> bool:
        return event["pid"] not in self._lives.killed

    def _value(self, name: str, **labels: str) -> float:
        total = sum(
            point["value"]
            for point in self._points
            if point["name"] == name and labels.items() <= point["labels"].items()
        )
        return float(total)

    def _between(self, name: str, least: float, most: float, **labels: str) -> Iterator[Violation]:
        value = self._value(name, **labels)
        if not least <= value <= most:
            said = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            label = ", ".join(f"{key}={text}" for key, text in {"entity_type": self._type, **labels}.items())
            points = [p for p in self._points if p["name"] == name and labels.items() <= p["labels"].items()]
            yield Violation("counts", f"{name}{{{label}}} is {value:g}, the record says {said}", points)

    def wrong(self) -> Iterator[Violation]:
        """Every metric of this type that is outside of its bounds."""
        yield from self._at_senders()
        yield from self._at_runners()

    def _at_senders(self) -> Iterator[Violation]:
        sent, lost = self._sent[True], self._sent[False]
        yield from self._between("cluster_messages_sent_total", sent, sent + lost)
        for outcome in ("ok", "error"):
            sure = sum(o == outcome and survived for o, _, survived in self._fates)
            all_of_them = sum(o == outcome for o, _, _ in self._fates)
            yield from self._between(
                "cluster_message_latency_seconds", sure, all_of_them + self._open, outcome=outcome
            )
        reasons = {reason for outcome, reason, _ in self._fates if outcome == "error"}
        reasons |= {p["labels"].get("type", "") for p in self._points if p["name"] == "cluster_errors_total"}
        for reason in sorted(reasons):
            sure = sum(r == reason and survived for _, r, survived in self._fates)
            all_of_them = sum(r == reason for _, r, _ in self._fates)
            yield from self._between("cluster_errors_total", sure, all_of_them + self._open, type=reason)
        errors = self._value("cluster_message_latency_seconds", outcome="error")
        yield from self._between("cluster_errors_total", errors, errors)
        settled = self._value("cluster_message_latency_seconds")
        yield from self._between("cluster_messages_sent_total", settled, settled + lost)

    def _at_runners(self) -> Iterator[Violation]:
        here = {
            name: life for name, life in self._lives.by_name.items() if life.activated["type"] == self._type
        }
        killed = self._lives.killed_runners
        sure = len(self._surely_received())
        most = self._value("cluster_messages_sent_total") + self._value("cluster_redeliveries_total")
        yield from self._between(
            "cluster_messages_received_total", sure, float("inf") if self._sent[False] else most
        )
        active = {event["activation"] for event in self._all("began")}
        sure = sum(name in active and life.runner not in killed for name, life in here.items())
        yield from self._between("cluster_entity_activations_total", sure, len(here))
        gone = [
            (event["reason"], here[event["activation"]].runner not in killed)
            for event in self._all("deactivated")
            if event["activation"] in here
        ]
        reasons = {reason for reason, _ in gone} | {
            p["labels"].get("reason", "")
            for p in self._points
            if p["name"] == "cluster_entity_deactivations_total"
        }
        for reason in sorted(reasons.difference(_UNWRITTEN)):
            sure = sum(r == reason and survived for r, survived in gone)
            all_of_them = sum(r == reason for r, _ in gone)
            yield from self._between("cluster_entity_deactivations_total", sure, all_of_them, reason=reason)

    def _surely_received(self) -> set[str]:
        sent_at = {self._events[moment]["token"]: moment for moment in self._history.of("sent")}
        found: set[str] = set()
        for moment in self._history.of("began"):
            event = self._events[moment]
            token = event["token"]
            if token not in self._tokens or token in found or not self._lives.on_survivor(event):
                continue
            if not self._lives.killed_one_lived(sent_at[token], moment):
                found.add(token)
        return found
